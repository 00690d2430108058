"""What the ONNX face of a similarity is: the bodies of two model-local functions, in ONNX's text form."""

from dataclasses import dataclass

CONV_ATTRIBUTES = ("strides", "pads", "dilations", "group")
# The attributes of a Conv inside a body are those of the node that calls the function.
WINDOW = "strides: ints = @strides, pads: ints = @pads, dilations: ints = @dilations"
GEOMETRY = f"{WINDOW}, group: int = @group"


@dataclass(frozen=True, slots=True)
class OnnxFace:
    """The statements that compute a layer's sums y from activations x and weights w, all float32.

    Attributes:
        conv: x (n, c, *spatial), w (o, c / group, *kernel) -> y (n, o, *out), one or two spatial axes,
            with the geometry of the node; the padding takes part as the value 0.
        linear: x (..., n_in), w (n_out, n_in) -> y (..., n_out).
    """

    conv: str
    linear: str


def term_by_term(weights: str, term: str) -> OnnxFace:
    """Return the face of a similarity that is no sum of products: every term is computed, then summed.

    All terms of a layer at once are batch * outputs * inputs * positions floats. Scan makes those of one
    image (Linear: of one row) at a time: 0.6 MB in the second layer of LeNet-5, 9.4 MB in a layer of
    ResNet-20 with 16 channels of 32 x 32. What grows with the batch are the copies of a convolution's
    inputs: the activations times the taps of the kernel.

    Args:
        weights: statements computed once: what the term needs of `w_part`.
        term: statements that compute `terms` from `x_part`, `w_part` and the names in `weights`, element
            by element; the two parts broadcast against each other.
    """
    # A convolution by the identity matrix copies the values under each tap of the kernel, padding included;
    # with the channels in the batch it needs no groups. Then i counts the inputs of an output, p positions.
    conv = f"""
    one = Constant <value_ints: ints = [1]> ()
    rest = Constant <value_ints: ints = [-1]> ()
    input_axis = Constant <value_ints: ints = [2]> ()
    group_number = Constant <value_int: int = @group> ()
    groups = Reshape (group_number, one)
    batch = Shape <start: int = 0, end: int = 1> (x)
    spatial = Shape <start: int = 2> (x)
    outputs = Shape <start: int = 0, end: int = 1> (w)
    kernel = Shape <start: int = 2> (w)
    taps = ReduceProd <keepdims: int = 1> (kernel)
    weight_count = Size (w)
    inputs = Div (weight_count, outputs)

    identity_shape = Concat <axis: int = 0> (taps, taps)
    blank = ConstantOfShape (identity_shape)
    identity = EyeLike (blank)
    selector_shape = Concat <axis: int = 0> (taps, one, kernel)
    selector = Reshape (identity, selector_shape)
    planes_shape = Concat <axis: int = 0> (rest, one, spatial)
    planes = Reshape (x, planes_shape)
    windows = Conv <{WINDOW}> (planes, selector)
    out_spatial = Shape <start: int = 2> (windows)

    patches_shape = Concat <axis: int = 0> (batch, groups, inputs, rest)
    patches = Reshape (windows, patches_shape)
    w_shape = Concat <axis: int = 0> (groups, rest, inputs, one)
    w_part = Reshape (w, w_shape)
    {weights}
    sums = Scan <num_scan_inputs: int = 1, body: graph = image (float[g, i, p] patch) => (float[g, o, p] image_sums)
    {{
        x_part = Unsqueeze (patch, one)
        {term}
        image_sums = ReduceSum <keepdims: int = 0> (terms, input_axis)
    }}> (patches)
    y_shape = Concat <axis: int = 0> (batch, outputs, out_spatial)
    y = Reshape (sums, y_shape)
"""
    linear = f"""
    rest = Constant <value_ints: ints = [-1]> ()
    outputs = Shape <start: int = 0, end: int = 1> (w)
    inputs = Shape <start: int = 1> (w)
    rows_shape = Concat <axis: int = 0> (rest, inputs)
    rows = Reshape (x, rows_shape)
    w_part = Identity (w)
    {weights}
    sums = Scan <num_scan_inputs: int = 1, body: graph = row (float[i] x_part) => (float[o] row_sums)
    {{
        {term}
        row_sums = ReduceSum <keepdims: int = 0> (terms, rest)
    }}> (rows)
    leading = Shape <end: int = -1> (x)
    y_shape = Concat <axis: int = 0> (leading, outputs)
    y = Reshape (sums, y_shape)
"""
    return OnnxFace(conv, linear)
