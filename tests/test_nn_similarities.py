"""Layers of every similarity: sums and gradients against loops over single terms, geometry, conversion, errors."""

import itertools
import math
import subprocess
import sys

import pytest
import torch
from mcucompile.errors import ModelError, UnsupportedError
from mcucompile.nn import (
    TORCH_SIMILARITIES,
    Conv1d,
    Conv2d,
    Linear,
    RectifiedAngle,
    Scale,
    compile_training,
    convert,
    homotopy_at,
    matched_init,
    rescale_gradients,
    set_batch_norm_gamma,
    set_homotopy,
    similarity_weights,
    training,
)
from mcucompile.similarities import torch_face
from mcucompile.similarities.adder import torch_face as adder_face
from mcucompile.similarities.minconv import torch_face as minconv_face
from torch import nn


def sign(value):
    return (value > 0) - (value < 0)


def sgn(value):
    return -1 if value < 0 else 1


def hard_tanh(value):
    return max(-1.0, min(1.0, value))


# One term S(x, w) in plain Python.
TERMS = {
    "dot": lambda x, w: x * w,
    "adder": lambda x, w: -abs(x - w),
    "euclid": lambda x, w: -((x - w) ** 2) / 2,
    "minconv": lambda x, w: sign(x) * sign(w) * min(abs(x), abs(w)),
    "synapse": lambda x, w: sign(x) * sign(w) * min(abs(x), abs(w)),
    "mfo": lambda x, w: sign(x) * sign(w) * (abs(x) + abs(w)),
    "trig": lambda x, w: math.sin(x) * math.sin(w),
    "binary": lambda x, w: sgn(x) * sgn(w),
    "ternary": lambda x, w: x * w,
}
# What one term adds to (dX, dW) for a gradient g of the output.
SLOPES = {
    ("dot", "exact"): lambda x, w, g: (g * w, g * x),
    ("adder", "full_precision"): lambda x, w, g: (g * hard_tanh(w - x), g * (x - w)),
    ("adder", "unclipped"): lambda x, w, g: (g * (w - x), g * (x - w)),
    ("adder", "sign"): lambda x, w, g: (g * sign(w - x), g * sign(x - w)),
    ("euclid", "exact"): lambda x, w, g: (g * (w - x), g * (x - w)),
    ("minconv", "exact"): lambda x, w, g: (g * sign(w) * (abs(x) < abs(w)), g * sign(x) * (abs(w) < abs(x))),
    ("minconv", "multiplication"): lambda x, w, g: (g * w, g * x),
    ("mfo", "exact"): lambda x, w, g: (g * sign(w), g * sign(x)),
    ("trig", "exact"): lambda x, w, g: (g * math.sin(w) * math.cos(x), g * math.sin(x) * math.cos(w)),
    ("trig", "method1"): lambda x, w, g: (
        math.sin(g) * math.sin(w) * math.cos(x),
        math.sin(g) * math.sin(x) * math.cos(w),
    ),
    ("trig", "method2"): lambda x, w, g: (math.sin(g) * math.sin(w) / 2, math.sin(g) * math.sin(x) / 2),
    ("binary", "straight_through"): lambda x, w, g: (g * sgn(w) * (abs(x) <= 1), g * sgn(x)),
}
# (channels in, out, height, width, kernel, stride, padding, dilation, groups)
GEOMETRIES = {
    "plain": (2, 3, 5, 6, (3, 2), (1, 1), (0, 0), (1, 1), 1),
    "padded, strided": (2, 4, 6, 5, (3, 3), (2, 1), (1, 2), (1, 1), 1),
    "dilated": (1, 2, 7, 8, (2, 3), (1, 2), (2, 0), (3, 2), 1),
    "grouped": (4, 6, 4, 5, (2, 2), (1, 1), (1, 1), (1, 1), 2),
    "depthwise": (3, 6, 5, 4, (3, 3), (2, 2), (1, 1), (1, 1), 3),
}


def terms_of(x, weight, stride, padding, dilation, groups):
    """Yield (output index, input index or None for padding, weight index) of every term of a 2-D convolution."""
    n_out, depth, *kernel = weight.shape
    sizes = [(x.shape[2 + i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in range(2)]
    indices = itertools.product(range(x.shape[0]), range(n_out), range(sizes[0]), range(sizes[1]))
    for n, o, row, column in indices:
        for c, i, j in itertools.product(range(depth), range(kernel[0]), range(kernel[1])):
            at = (row * stride[0] + i * dilation[0] - padding[0], column * stride[1] + j * dilation[1] - padding[1])
            inside = 0 <= at[0] < x.shape[2] and 0 <= at[1] < x.shape[3]
            channel = o // (n_out // groups) * depth + c
            yield (n, o, row, column), ((n, channel, *at) if inside else None), (o, c, i, j)


def looped_sum(term, x, weight, shape, *geometry):
    result = torch.zeros(shape, dtype=torch.float64)
    for out, at, w in terms_of(x, weight, *geometry):
        result[out] += term(0.0 if at is None else float(x[at]), float(weight[w]))
    return result


def looped_gradients(slopes, x, weight, grad, *geometry):
    grad_x, grad_weight = torch.zeros_like(x), torch.zeros_like(weight)
    for out, at, w in terms_of(x, weight, *geometry):
        to_x, to_weight = slopes(0.0 if at is None else float(x[at]), float(weight[w]), float(grad[out]))
        grad_weight[w] += to_weight
        if at is not None:
            grad_x[at] += to_x
    return grad_x, grad_weight


def ternary_weights(weight):
    """Equation 6 of Li and Liu, one filter at a time."""
    result = torch.zeros_like(weight)
    for o, filter_weights in enumerate(weight):
        values = filter_weights.flatten().tolist()
        limit = 0.7 * sum(abs(value) for value in values) / len(values)
        result[o] = torch.tensor([sign(v) * (abs(v) > limit) for v in values]).reshape(filter_weights.shape)
    return result


def conv_case(similarity, geometry, gradient=None, bias=False):
    channels, outputs, height, width, kernel, *rest = GEOMETRIES[geometry]
    torch.manual_seed(len(similarity) + len(geometry))
    layer = Conv2d(channels, outputs, kernel, *rest, bias=bias, similarity=similarity, gradient=gradient).double()
    nn.init.normal_(layer.weight)
    x = torch.randn(2, channels, height, width, dtype=torch.float64)
    # Zeros are what padding and rectifiers give: every similarity must have them right.
    x[x.abs() < 0.2] = 0
    return layer, x.requires_grad_(), rest


def inference_weights(layer):
    return layer.similarity.deployed(layer.weight.detach())


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("similarity", TORCH_SIMILARITIES)
def test_convolution_sums_the_terms_of_each_receptive_field(similarity, geometry, monkeypatch):
    monkeypatch.setattr(torch_face, "TILE_ELEMENTS", 50)  # several tiles, the last one not full
    layer, x, rest = conv_case(similarity, geometry, bias=True)
    weight = inference_weights(layer)
    if similarity == "ternary":
        torch.testing.assert_close(weight, ternary_weights(layer.weight.detach()))
    with torch.no_grad():
        result = layer(x)
    expected = looped_sum(TERMS[similarity], x.detach(), weight, result.shape, *rest)
    torch.testing.assert_close(result, expected + layer.bias.detach()[:, None, None])


@pytest.mark.parametrize("geometry", ["padded, strided", "grouped", "depthwise"])
@pytest.mark.parametrize(("similarity", "gradient"), SLOPES)
def test_gradients_are_those_of_the_papers(similarity, gradient, geometry, monkeypatch):
    monkeypatch.setattr(torch_face, "TILE_ELEMENTS", 50)
    layer, x, rest = conv_case(similarity, geometry, gradient)
    result = layer(x)
    grad = torch.randn_like(result)
    result.backward(grad)
    weight = layer.weight.detach().clamp(-math.pi / 2, math.pi / 2) if similarity == "trig" else layer.weight.detach()
    expected = looped_gradients(SLOPES[similarity, gradient], x.detach(), weight, grad, *rest)
    if similarity == "trig":
        # A weight at the end of its range stays there; at pi/2 the exact gradient is 0 anyway.
        expected[1][layer.weight.abs() > math.pi / 2] = 0
    torch.testing.assert_close(x.grad, expected[0])
    torch.testing.assert_close(layer.weight.grad, expected[1])


@pytest.mark.parametrize("compiler", ["torch's", "none"])
@pytest.mark.parametrize("similarity", ["adder", "minconv"])
def test_compiled_training_has_the_same_sums_and_gradients(similarity, compiler, monkeypatch):
    """With torch.compile once; without it, which is quick, in every geometry."""
    if compiler == "none":
        for module in (training, adder_face, minconv_face):
            monkeypatch.setattr(module, "fused", lambda terms: terms)
    monkeypatch.setattr(minconv_face, "FUSED_POSITIONS", 5)
    for geometry in GEOMETRIES if compiler == "none" else ["grouped"]:
        layer, x, rest = conv_case(similarity, geometry)
        compile_training(layer)
        result = layer(x)
        weight = layer.weight.detach()
        torch.testing.assert_close(result, looped_sum(TERMS[similarity], x.detach(), weight, result.shape, *rest))
        grad = torch.randn_like(result)
        result.backward(grad)
        slopes = next(slope for (name, _), slope in SLOPES.items() if name == similarity)
        expected = looped_gradients(slopes, x.detach(), weight, grad, *rest)
        torch.testing.assert_close(x.grad, expected[0])
        torch.testing.assert_close(layer.weight.grad, expected[1])


def test_inference_does_not_need_torch_compile(monkeypatch):
    layer, x, _rest = conv_case("adder", "plain")
    layer.similarity.compiled = True
    monkeypatch.setattr(adder_face, "fused", None)
    layer.eval()(x)
    with pytest.raises(TypeError):
        layer.train()(x)


def test_a_compiler_that_fails_is_named(monkeypatch):
    def fail(_terms, **_options):
        raise RuntimeError("No working C++ compiler found\nand more")

    monkeypatch.setattr(torch, "compile", fail)
    torch_face.fused.cache_clear()
    layer, _x, _rest = conv_case("adder", "plain")
    with pytest.raises(UnsupportedError, match=r"torch\.compile: fails: No working C\+\+ compiler found;"):
        compile_training(layer)
    assert not layer.similarity.compiled


def test_every_gradient_has_a_formula_here():
    faces = {face.name: face for face in TORCH_SIMILARITIES.values()}
    known = {(name, gradient) for name, face in faces.items() for gradient in face.gradients}
    assert known - set(SLOPES) == {("ternary", "straight_through"), ("minconv", "algorithm1")}


def test_ternary_gradient_passes_straight_through():
    layer, x, rest = conv_case("ternary", "padded, strided")
    result = layer(x)
    grad = torch.randn_like(result)
    result.backward(grad)
    to_x, _ = looped_gradients(lambda _x, w, g: (g * w, 0), x.detach(), inference_weights(layer), grad, *rest)
    _, to_weight = looped_gradients(lambda x, _w, g: (0, g * x), x.detach(), layer.weight.detach(), grad, *rest)
    torch.testing.assert_close(x.grad, to_x)
    torch.testing.assert_close(layer.weight.grad, to_weight)


@pytest.mark.parametrize(("similarity", "gradient"), [("adder", "sign"), ("minconv", "exact"), ("euclid", None)])
def test_exact_gradients_pass_a_numerical_check(similarity, gradient):
    torch.manual_seed(3)
    layer = Linear(7, 4, similarity=similarity, gradient=gradient).double()
    assert torch.autograd.gradcheck(layer, torch.randn(5, 7, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize("homotopy", [0.0, 0.3, 1.0])
def test_homotopy_leads_from_the_dot_product_to_the_distance(homotopy):
    layer, x, rest = conv_case("euclid", "grouped")
    set_homotopy(layer, homotopy)
    result = layer(x)
    grad = torch.randn_like(result)
    result.backward(grad)
    weight = layer.weight.detach()
    expected = looped_sum(lambda x, w: x * w - homotopy * (x * x + w * w) / 2, x.detach(), weight, result.shape, *rest)
    slopes = looped_gradients(
        lambda x, w, g: (g * (w - homotopy * x), g * (x - homotopy * w)), x.detach(), weight, grad, *rest
    )
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(x.grad, slopes[0])
    torch.testing.assert_close(layer.weight.grad, slopes[1])


def test_homotopy_schedule():
    assert [homotopy_at(step, 100) for step in (0, 25, 50, 99)] == [0, 0.5, 1, 1]
    assert homotopy_at(25, 100, start=0.5, reached_after=0.25) == 1
    assert homotopy_at(0, 100, start=0.5, reached_after=0.25) == 0.5
    assert homotopy_at(0, 0) == 1


def test_algorithm_1_of_minconvnets():
    layer, x, rest = conv_case("minconv", "padded, strided", "algorithm1")
    result = layer(x)
    grad = torch.randn_like(result)
    result.backward(grad)
    mean_x = float(x.detach().abs().mean())
    means = layer.weight.detach().abs().mean((1, 2, 3))
    clipped_x = x.detach().clamp(-2 * mean_x, 2 * mean_x)
    clipped = torch.stack([w.clamp(-2 * m, 2 * m) for w, m in zip(layer.weight.detach(), means, strict=True)])
    scaled = torch.stack([mean_x / m * w for w, m in zip(clipped, means, strict=True)])
    sums = looped_sum(TERMS["minconv"], clipped_x, scaled, result.shape, *rest)
    torch.testing.assert_close(result, sums * means[:, None, None])
    to_x, to_weight = looped_gradients(lambda x, w, g: (g * w, g * x), clipped_x, clipped, grad, *rest)
    torch.testing.assert_close(x.grad, to_x * (x.detach().abs() <= 2 * mean_x))
    torch.testing.assert_close(layer.weight.grad, to_weight * (layer.weight.detach() == clipped))
    # Inference: the plain formula with the deployed weights, which makes clipping x superfluous.
    torch.testing.assert_close(layer.similarity.mean_abs_input, torch.tensor(0.9 + 0.1 * mean_x, dtype=torch.float64))
    layer.eval()
    plain = looped_sum(TERMS["minconv"], x.detach(), inference_weights(layer), result.shape, *rest)
    scale = layer.similarity.deployed_scale(layer.weight.detach())
    torch.testing.assert_close(layer(x).detach(), plain * scale[:, None, None])
    assert "similarity.mean_abs_input" in layer.state_dict()


@pytest.mark.parametrize("similarity", TORCH_SIMILARITIES)
def test_conv1d_and_linear_agree_with_conv2d(similarity):
    torch.manual_seed(4)
    x = torch.randn(3, 4, 9)
    line = Conv1d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2, similarity=similarity)
    plane = Conv2d(4, 6, (1, 3), (1, 2), (0, 2), (1, 2), groups=2, similarity=similarity)
    plane.load_state_dict({"weight": line.weight.detach()[:, :, None], "bias": line.bias.detach()})
    torch.testing.assert_close(line(x), plane(x[:, :, None])[:, :, 0])
    dense = Linear(5, 3, similarity=similarity)
    point = Conv2d(5, 3, 1, similarity=similarity)
    point.load_state_dict({"weight": dense.weight.detach()[..., None, None], "bias": dense.bias.detach()})
    for shape in ((5,), (2, 5), (2, 4, 5)):
        x = torch.randn(shape)
        torch.testing.assert_close(dense(x), point(x.reshape(-1, 5, 1, 1)).reshape(*shape[:-1], 3))


def test_layers_are_drop_ins_for_those_of_torch():
    torch.manual_seed(5)
    pairs = (
        (nn.Linear(4, 3), Linear(4, 3), (2, 4)),
        (nn.Conv1d(4, 2, 3, 2, 1, 1, 2), Conv1d(4, 2, 3, 2, 1, 1, 2), (2, 4, 7)),
        (nn.Conv2d(4, 2, 3, 2, 1, 2, 2), Conv2d(4, 2, 3, 2, 1, 2, 2), (2, 4, 7, 8)),
    )
    for torch_layer, layer, shape in pairs:
        layer.load_state_dict(torch_layer.state_dict())
        x = torch.randn(shape)
        torch.testing.assert_close(layer(x), torch_layer(x))
        assert "similarity" in repr(layer)


def test_a_batch_of_none_gives_none():
    for similarity in TORCH_SIMILARITIES:
        assert Linear(4, 3, similarity=similarity)(torch.randn(0, 4)).shape == (0, 3)


def test_unknown_names_are_refused_by_what_is_known():
    for make in (lambda s, g: Linear(2, 2, similarity=s, gradient=g), lambda s, g: convert(small_net(), s, gradient=g)):
        with pytest.raises(UnsupportedError, match=r"no similarity 'maxconv'.*adder.*minconv"):
            make("maxconv", None)
        with pytest.raises(UnsupportedError, match=r"'adder'.*no gradient 'exact'.*full_precision, unclipped, sign"):
            make("adder", "exact")
    with pytest.raises(UnsupportedError, match="padding='same'"):
        Conv2d(1, 1, 3, padding="same", similarity="adder")


def small_net():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * 5 * 5, 3, bias=False),
        nn.BatchNorm1d(3),
    )


def trained_net():
    """A net whose batch statistics and gammas are not the initial ones."""
    torch.manual_seed(6)
    net = small_net()
    for norm in (net[1], net[5]):
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.normal_(norm.bias)
    for _ in range(20):
        net(torch.randn(16, 2, 5, 5) * 3 + 1)
    return net.eval()


def test_matched_init_changes_sizes_but_not_the_network():
    net = trained_net()
    batch = torch.randn(32, 2, 5, 5) * 3 + 1
    before = net(batch).detach()
    seen = []
    handles = [net[i].register_forward_pre_hook(lambda _m, args: seen.append(args[0])) for i in (0, 4)]
    matched_init(net, batch)
    assert not net.training
    seen.clear()
    torch.testing.assert_close(net(batch).detach(), before, atol=1e-5, rtol=1e-4)
    for handle in handles:
        handle.remove()
    for layer, x in zip((net[0], net[4]), seen, strict=True):
        torch.testing.assert_close(layer.weight.detach().square().mean(), x.square().mean(), rtol=1e-4, atol=0)


def test_convert_keeps_weights_and_names_and_leaves_the_original_alone():
    net = trained_net()
    batch = torch.randn(32, 2, 5, 5)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    euclid = convert(net, "euclid", batch=batch)
    assert {name: tuple(v.shape) for name, v in euclid.state_dict().items()} == {
        name: tuple(v.shape) for name, v in state.items()
    }
    assert type(euclid[0]) is Conv2d
    assert type(euclid[4]) is Linear
    assert not euclid[0].training
    set_homotopy(euclid, 0.0)
    torch.testing.assert_close(euclid(batch), net(batch), atol=1e-5, rtol=1e-4)
    back = convert(convert(net, "minconv"), "dot")
    torch.testing.assert_close(back(batch), net(batch))
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=0, atol=0)
    kept = convert(net, "adder", gradient="sign", keep=["0"])
    assert type(kept[0]) is nn.Conv2d
    assert (kept[4].similarity.name, kept[4].similarity.gradient) == ("adder", "sign")


def test_conversion_names_what_it_cannot_do():
    batch = torch.randn(4, 2, 5, 5)
    with pytest.raises(ModelError, match=r"layer '0'.*not followed by batch normalisation.*keep"):
        convert(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), "adder", batch=torch.randn(3, 2))
    with pytest.raises(ModelError, match=r"no layers are called fc9.*choose from 0, 4"):
        convert(small_net(), "adder", keep=["fc9"])
    with pytest.raises(ModelError, match=r"layer '0'.*only zeros"):
        matched_init(trained_net(), batch * 0)
    with pytest.raises(ModelError, match="a single layer"):
        convert(nn.Linear(2, 2), "adder")
    with pytest.raises(UnsupportedError, match=r"layer '0'.*padding 'same'"):
        convert(nn.Sequential(nn.Conv2d(1, 1, 3, padding="same")), "adder")


def test_adaptive_local_learning_rate():
    layer = Linear(6, 4, similarity="adder")
    layer(torch.randn(5, 6)).square().sum().backward()
    before = layer.weight.grad.clone()
    other = nn.Parameter(torch.ones(3))
    still = nn.Parameter(torch.ones(3))
    still.grad = torch.zeros(3)
    rescale_gradients([*similarity_weights(nn.Sequential(layer)), other, still], eta=0.1)
    torch.testing.assert_close(layer.weight.grad, before * 0.1 * math.sqrt(24) / before.square().sum().sqrt())
    assert other.grad is None
    assert not still.grad.any()


def test_activations_and_gamma():
    x = torch.tensor([-1.0, 0.5, 2.0])
    torch.testing.assert_close(RectifiedAngle()(x), torch.tensor([0, 0.5, math.pi / 2]))
    torch.testing.assert_close(Scale(2**-7, -1.0)(torch.tensor([0, 128, 255])), torch.tensor([-1, 0, 127 / 128]))
    net = small_net()
    set_batch_norm_gamma(net, 0.3)
    torch.testing.assert_close(torch.cat([net[1].weight, net[5].weight]).detach(), torch.full((7,), 0.3))


def test_adder_weights_start_at_the_size_of_normalised_inputs():
    torch.manual_seed(7)
    assert float(Linear(100, 100, similarity="adder").weight.detach().std()) == pytest.approx(1, rel=0.05)
    torch.manual_seed(8)
    expected = nn.Linear(30, 20).weight
    torch.manual_seed(8)
    torch.testing.assert_close(Linear(30, 20, similarity="euclid").weight, expected)


def test_the_table_of_similarities_does_not_import_torch():
    code = "import sys, mcucompile.similarities; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
