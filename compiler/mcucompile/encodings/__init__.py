"""The table of weight encodings. Adding one: a file here and one line below."""

from mcucompile.encodings.decimal_log_quant import DECIMAL_LOG_QUANT
from mcucompile.encodings.encoding import Codebook, Encoding, Weights, pack
from mcucompile.encodings.given import given_weights
from mcucompile.encodings.integer import INT4, INT8
from mcucompile.encodings.log_quant import LOG_QUANT
from mcucompile.encodings.zero_point import ZERO_POINT_INT8

_ALL: tuple[Encoding, ...] = (INT8, INT4, ZERO_POINT_INT8, *LOG_QUANT, *DECIMAL_LOG_QUANT)
ENCODINGS: dict[str, Encoding] = {encoding.name: encoding for encoding in _ALL}

__all__ = ["ENCODINGS", "Codebook", "Encoding", "Weights", "given_weights", "pack"]
