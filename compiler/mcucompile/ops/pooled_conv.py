"""A convolution and the largest value under each window of its output: what the planner makes of the two.

Codes grow with sums where a multiplier is positive and fall where it is negative, so a kernel can find the largest
code's sum first, and makes one code where the two layers make one for each sum.
"""

from dataclasses import dataclass, fields
from typing import ClassVar

from mcucompile.ir import Array, RowAccess, Shape
from mcucompile.ops.conv import IntegerConv
from mcucompile.ops.max_pool import MaxPool
from mcucompile.ops.window import Window


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class IntegerPooledConv(IntegerConv):
    """y = max over a pool's windows of IntegerConv.

    Attributes:
        pool: windows beside each other that lie in the convolution's output.
    """

    kind: ClassVar[str] = "pooled_conv"
    pool: Window

    def output_shape(self, *shapes: Shape) -> Shape:
        """(n, pooled rows, pooled columns, n_out)."""
        return self._largest.output_shape(self.convolution.output_shape(*shapes))

    def run(self, *inputs: Array) -> Array:
        """Bit-exact output codes: those of the two layers."""
        return self._largest.run(self.convolution.run(*inputs))

    def operations(self, *shapes: Shape) -> int:
        """Those of the convolution."""
        return self.convolution.operations(*shapes)

    def row_access(self, *shapes: Shape) -> RowAccess | None:
        """The rows of the convolution's windows for a row of the pool's."""
        access = self.convolution.row_access(*shapes)
        if access is None:
            return None
        size, stride = self.pool.size[0], self.pool.strides[0]
        reach = access.reach + (size - 1) * access.stride
        return RowAccess(self.output_shape(*shapes)[1], access.input_rows, stride * access.stride, access.before, reach)

    @property
    def convolution(self) -> IntegerConv:
        """The convolution alone."""
        return IntegerConv(**{field.name: getattr(self, field.name) for field in fields(IntegerConv)})

    @property
    def _largest(self) -> MaxPool:
        return MaxPool(name=self.name, inputs=(self.output,), output=self.output, source=self.source, window=self.pool)
