"""The ONNX form of the four-view features: a function of standard operators, run unchanged by any runtime."""

import onnx
import onnx.parser

DOMAIN = "mcucompile"
NAME = "FourView"
OPSET = 21

# A pixel p of a zone has row p / w and column p % w; it lies on row line `row`, column line `column`,
# diagonal row - column + w - 1 and anti-diagonal row + column. Comparing those with 0..lines-1 gives
# the 0/1 matrix by which one product sums all the lines of a view.
_BODY = """
<domain: "mcucompile", opset_import: ["" : 21]>
FourView <zone_height, zone_width, shift> (images) => (features)
{
    zero = Constant <value_int: int = 0> ()
    one = Constant <value_int: int = 1> ()
    last_axis = Constant <value_ints: ints = [-1]> ()
    keep = Constant <value_ints: ints = [0]> ()
    rest = Constant <value_ints: ints = [-1]> ()
    h = Constant <value_int: int = @zone_height> ()
    w = Constant <value_int: int = @zone_width> ()
    h_shape = Unsqueeze (h, keep)
    w_shape = Unsqueeze (w, keep)

    area = Mul (h, w)
    pixel = Range (zero, area, one)
    pixel_column = Unsqueeze (pixel, last_axis)
    row = Div (pixel_column, w)
    column = Mod (pixel_column, w)
    w_less_one = Sub (w, one)
    row_less_column = Sub (row, column)
    diagonal = Add (row_less_column, w_less_one)
    anti_diagonal = Add (row, column)
    diagonals = Add (h, w_less_one)
    row_lines = Range (zero, h, one)
    column_lines = Range (zero, w, one)
    diagonal_lines = Range (zero, diagonals, one)
    on_row = Equal (row, row_lines)
    on_column = Equal (column, column_lines)
    on_diagonal = Equal (diagonal, diagonal_lines)
    on_anti_diagonal = Equal (anti_diagonal, diagonal_lines)
    row_matrix = Cast <to: int = 1> (on_row)
    column_matrix = Cast <to: int = 1> (on_column)
    diagonal_matrix = Cast <to: int = 1> (on_diagonal)
    anti_diagonal_matrix = Cast <to: int = 1> (on_anti_diagonal)

    real = Cast <to: int = 1> (images)
    image_width = Shape <start: int = 2, end: int = 3> (images)
    zones_across = Div (image_width, w_shape)
    grid_shape = Concat <axis: int = 0> (keep, rest, h_shape, zones_across, w_shape)
    grid = Reshape (real, grid_shape)
    zone_grid = Transpose <perm: ints = [0, 1, 3, 2, 4]> (grid)
    area_shape = Unsqueeze (area, keep)
    image_height = Shape <start: int = 1, end: int = 2> (images)
    zones_down = Div (image_height, h_shape)
    zones = Mul (zones_down, zones_across)
    pixels_shape = Concat <axis: int = 0> (keep, zones, area_shape)
    pixels = Reshape (zone_grid, pixels_shape)

    row_sums = MatMul (pixels, row_matrix)
    column_sums = MatMul (pixels, column_matrix)
    diagonal_sums = MatMul (pixels, diagonal_matrix)
    anti_diagonal_sums = MatMul (pixels, anti_diagonal_matrix)
    row_peak = ReduceMax (row_sums, last_axis)
    column_peak = ReduceMax (column_sums, last_axis)
    diagonal_peak = ReduceMax (diagonal_sums, last_axis)
    anti_diagonal_peak = ReduceMax (anti_diagonal_sums, last_axis)
    peaks = Concat <axis: int = 2> (row_peak, column_peak, diagonal_peak, anti_diagonal_peak)

    bits = Constant <value_int: int = @shift> ()
    bits_real = Cast <to: int = 1> (bits)
    two = Constant <value_float: float = 2.0> ()
    divisor = Pow (two, bits_real)
    scaled = Div (peaks, divisor)
    floored = Floor (scaled)
    four = Constant <value_ints: ints = [4]> ()
    feature_count = Mul (zones, four)
    features_shape = Concat <axis: int = 0> (keep, feature_count)
    features = Reshape (floored, features_shape)
}
"""


def four_view_function() -> onnx.FunctionProto:
    """Return the model-local function `FourView` of domain "mcucompile", opset 21.

    images (n, h, w), uint8 or float with byte values -> features, float32 (n, zones * 4); what it
    computes is documented at mcucompile.nn.four_view.FourView. The node's integer attributes are
    zone_height, zone_width and shift; one function serves every geometry.
    """
    return onnx.parser.parse_function(_BODY)
