"""What a weight encoding is: which integers a stored code can mean, and how a real weight gets its code."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mcucompile.numerics import Int, Real


@dataclass(frozen=True, slots=True, eq=False)
class Codebook:
    """The meaning of every code of a layer: real weight = values[code] * scale.

    Attributes:
        values: (codes,) integer value of each code; codes that no weight uses mean 0.
        scale: real size of value 1 for the whole layer; without meaning if `per_channel`.
        per_channel: each output channel has a scale of its own, chosen by calibration.
        parameters: what calibration chose, for reports, e.g. "R = 5".
    """

    values: Int
    scale: float = 1.0
    per_channel: bool = False
    parameters: str = ""


@dataclass(frozen=True, slots=True)
class Encoding(ABC):
    """One row of the encoding table.

    Attributes:
        name: the name on the command line and in reports.
        bits: bits of one stored code: 4 (two codes a byte, the even one in the low half) or 8.
        summary: one line for people.
    """

    name: str
    bits: int
    summary: str

    @abstractmethod
    def codebooks(self, weight: Real, value_bits: int) -> Iterator[Codebook]:
        """Yield the codebooks that calibration may choose from for a layer.

        Args:
            weight: (n_out, n_in) real weights.
            value_bits: no value may exceed 2**value_bits, or an accumulator could overflow.
        """

    @abstractmethod
    def encode(self, weight: Real, codebook: Codebook, scale: Real) -> Int:
        """Return the code of each weight.

        Args:
            weight: (n_out, n_in), finite.
            codebook: one of `codebooks`.
            scale: (n_out, 1) or (1, 1), real size of value 1.
        Returns:
            Codes, (n_out, n_in), below len(codebook.values).
        """


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """A layer's encoded weights.

    Attributes:
        encoding: name in the encoding table.
        bits: bits of one stored code, 4 or 8.
        codes: (n_out, n_in).
        code_values: (codes,) integer value of each code.
        scale: (n_out,) or (1,) real size of value 1, for reports and dequantized weights.
        parameters: what calibration chose, for reports.
    """

    encoding: str
    bits: int
    codes: Int
    code_values: Int
    scale: Real
    parameters: str

    @property
    def values(self) -> Int:
        """(n_out, n_in) integer weights."""
        return np.asarray(self.code_values[self.codes], dtype=np.int64)

    @property
    def packed_bytes(self) -> int:
        """Bytes of flash the codes take; each output's row starts on a byte."""
        n_out, n_in = self.codes.shape
        return int(n_out) * ((int(n_in) * self.bits + 7) // 8)


def pack(weights: Weights) -> Int:
    """Return the stored bytes, (n_out, bytes in a row). With 4 bits, the even input's code is the low half."""
    codes = weights.codes
    if weights.bits == 8:
        return codes
    padded = np.pad(codes, ((0, 0), (0, codes.shape[1] % 2)))
    return np.asarray(padded[:, 0::2] | (padded[:, 1::2] << 4), dtype=np.int64)
