"""What the papers on multiplication-free networks claim, tried on MNIST: their numbers beside ours.

    python benchmarks/multiplication_free_claims.py --data mnist.npz

Small on purpose (8,000 training images, 4 epochs, one seed, one core: a quarter of an hour): the papers' networks are
larger and train longer, so that orders and gaps are compared, not absolute numbers; half a point is noise. Accuracies
are on the 10,000 test images; nothing is chosen by them. Writes benchmarks/results/multiplication_free_claims.json.
"""

import json
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
import torch
from mcucompile.nn import Linear, RectifiedAngle, convert, set_batch_norm_gamma, similarity_weights
from mnist_data import DIGITS, RESULTS, ROOT
from torch import Tensor, nn

sys.path.insert(0, str(ROOT / "examples" / "multiplication_free"))

from mnist import load_mnist
from networks import lenet5
from recipes import MATCHED_IMAGES, RECIPES, Recipe, accuracy, fit, images_tensor

IMAGES, EPOCHS, SEED = 8000, 4, 1
SAMPLES = 1_000_000
CACHE = ROOT / "benchmarks" / "cache" / "multiplication_free_claims.json"
Values = dict[str, float]


@dataclass(frozen=True, slots=True)
class Data:
    """Training images (n, 1, 28, 28) as float bytes, labels (n,), and the same to test with."""

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor


@dataclass(frozen=True, slots=True)
class Variant:
    """One network to train: a recipe, and what a recipe does not say."""

    recipe: Recipe
    activation: Callable[[], nn.Module] | None = None


def recipe(similarity: str, **changes: object) -> Recipe:
    """Return the example's recipe for a similarity, shortened, with changes."""
    return replace(RECIPES[similarity], epochs=EPOCHS, batch=128, seed=SEED, **changes)


ADDER = recipe("adder")
# Without the adaptive rate, and with the rate of the weights a hundred times as large.
PLAIN, INCREASED = {"eta": None}, {"eta": None, "weight_rate": 100 * ADDER.weight_rate}
SCRATCH = {"from_dot": False, "homotopy": False}
VARIANTS: Mapping[str, Variant] = {
    "dot": Variant(recipe("dot")),
    "adder": Variant(ADDER),
    "adder, no adaptive rate": Variant(replace(ADDER, **PLAIN)),
    "adder, no adaptive rate, sign gradient": Variant(replace(ADDER, gradient="sign", **PLAIN)),
    "adder, rate x 100": Variant(replace(ADDER, **INCREASED)),
    "adder, rate x 100, sign gradient": Variant(replace(ADDER, gradient="sign", **INCREASED)),
    "adder, sign gradient": Variant(replace(ADDER, gradient="sign")),
    "adder, no HardTanh": Variant(replace(ADDER, gradient="unclipped")),
    **{f"adder, eta {eta}": Variant(replace(ADDER, eta=eta)) for eta in (1.0, 0.5, 0.2, 0.05)},
    "euclid": Variant(recipe("euclid")),
    "euclid, random": Variant(recipe("euclid", **SCRATCH)),
    "euclid, no homotopy": Variant(recipe("euclid", homotopy=False)),
    "euclid, not matched": Variant(recipe("euclid", matched=False)),
    "euclid, no homotopy, not matched": Variant(recipe("euclid", homotopy=False, matched=False)),
    "mfo": Variant(recipe("mfo")),
    "mfo, random": Variant(recipe("mfo", **SCRATCH)),
    "minconv": Variant(recipe("minconv")),
    "minconv, random": Variant(recipe("minconv", **SCRATCH)),
    "minconv, Algorithm 1": Variant(recipe("minconv", gradient="algorithm1", matched=False, weight_rate=3e-3)),
    "minconv, Algorithm 1, random": Variant(recipe("minconv", gradient="algorithm1", weight_rate=3e-3, **SCRATCH)),
    **{f"trig, gamma {gamma}": Variant(recipe("trig", gamma=gamma)) for gamma in (1.0, 0.7, 0.5, 0.3, 0.1)},
    "trig, method 1": Variant(recipe("trig", gradient="method1")),
    "trig, method 2": Variant(recipe("trig", gradient="method2")),
    "trig, sine past pi/2": Variant(recipe("trig"), nn.ReLU),
    "trig, not rectified": Variant(recipe("trig"), nn.Identity),
}


def untrained(variant: Variant, data: Data, dot: nn.Sequential | None) -> nn.Sequential:
    """Return the network that a variant starts from."""
    made = variant.recipe
    torch.manual_seed(made.seed)
    if made.from_dot:
        assert dot is not None
        batch = data.images[:MATCHED_IMAGES] if made.matched else None
        return convert(dot, made.similarity, gradient=made.gradient, batch=batch)
    model = lenet5(made.similarity, made.gradient, variant.activation)
    set_batch_norm_gamma(model, made.gamma)
    return model


def trained(name: str, data: Data, done: Values, dot: nn.Sequential | None = None) -> nn.Sequential:
    """Train a variant, measure it, and keep its accuracy for a run that is broken off."""
    start = time.monotonic()
    model = untrained(VARIANTS[name], data, dot)
    fit(model, data.images, data.labels, VARIANTS[name].recipe)
    keep(name, accuracy(model, data.test_images, data.test_labels), done)
    print(f"{name}: {done[name]:.2%}, {time.monotonic() - start:.0f} s", flush=True)
    return model


def keep(name: str, correct: float, done: Values) -> None:
    """Add an accuracy to those that are finished."""
    done[name] = correct
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    CACHE.write_text(json.dumps(done), encoding="utf-8")


def gradient_norms(data: Data) -> dict[str, list[float]]:
    """AdderNet, Table 1: the L2 norm of the weights' gradients in the first three layers at the first step."""
    result = {}
    for name in ("adder", "dot"):
        model = untrained(VARIANTS[name], data, None)
        nn.functional.cross_entropy(model(data.images[:256]), data.labels[:256]).backward()
        result[name] = [
            float(weight.grad.norm()) for weight in similarity_weights(model)[:3] if weight.grad is not None
        ]
    return result


def weight_likelihoods(models: Mapping[str, nn.Sequential]) -> dict[str, Values]:
    """AdderNet, Figure 4: mean log-likelihood of the third layer's weights under the best Laplace and Gauss."""
    result = {}
    for name, model in models.items():
        weights = similarity_weights(model)[2].detach().double().flatten()
        scale = float((weights - weights.median()).abs().mean())
        result[name] = {
            "laplace": -float(np.log(2 * scale)) - 1,
            "gauss": -0.5 * float(np.log(2 * np.pi * np.e * float(weights.var(correction=0)))),
        }
    return result


def correlations() -> dict[str, Values]:
    """MinConvNets, Table 1: correlation of |x||w| with min, sum and max of |x|, |w|, by Monte Carlo."""
    rng = np.random.default_rng(SEED)
    draws: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
        "N(0,1), N(0,1)": lambda: (rng.normal(0, 1, SAMPLES), rng.normal(0, 1, SAMPLES)),
        "N(0,1), N(0,10)": lambda: (rng.normal(0, 1, SAMPLES), rng.normal(0, 10, SAMPLES)),
        "U(0,1), U(0,1)": lambda: (rng.uniform(0, 1, SAMPLES), rng.uniform(0, 1, SAMPLES)),
        "U(0,10), U(0,1)": lambda: (rng.uniform(0, 10, SAMPLES), rng.uniform(0, 1, SAMPLES)),
    }
    result = {}
    for name, draw in draws.items():
        x, w = (np.abs(values) for values in draw())
        others = {"min": np.minimum(x, w), "sum": x + w, "max": np.maximum(x, w)}
        result[name] = {key: float(np.corrcoef(x * w, values)[0, 1]) for key, values in others.items()}
    return result


def first_step_statistics(data: Data) -> list[Values]:
    """Thesis, Table 4.1: mean and deviation of inputs x, weights W and errors E of each layer at the first step."""
    model = untrained(VARIANTS["trig, gamma 0.3"], data, None)
    rows: list[Values] = []
    for layer in (module for module in model if isinstance(module, nn.Conv2d | nn.Linear)):
        weight = layer.weight.detach()
        row: Values = {"mu_W": float(weight.mean()), "sigma_W": float(weight.std())}
        rows.append(row)

        def inputs(_layer: nn.Module, args: tuple[Tensor], output: Tensor, row: Values = row) -> None:
            x = args[0].detach()
            row |= {"mu_x": float(x.mean()), "sigma_x": float(x.std())}
            output.register_hook(lambda error: row.update({"mu_E": float(error.mean()), "sigma_E": float(error.std())}))

        layer.register_forward_hook(inputs)
    nn.functional.cross_entropy(model(data.images[:128]), data.labels[:128]).backward()
    return rows


def dense_networks(data: Data, done: Values) -> dict[str, Values]:
    """Thesis, Table 4.3: three hidden layers with ReLU, sine and rectified sine; momentum SGD, no normalisation."""
    kinds = {"ReLU": ("dot", nn.ReLU), "sine": ("trig", nn.Identity), "rectified sine": ("trig", RectifiedAngle)}
    made = Recipe("dot", EPOCHS, optimizer="sgd", learning_rate=0.01, weight_rate=0.01, seed=SEED)
    result: dict[str, Values] = {}
    for name, sizes in {"Net1": (1000, 1000, 1000), "Net2": (1000, 1000, 100), "Net3": (100, 100, 1000)}.items():
        result[name] = {}
        for kind, (similarity, activation) in kinds.items():
            key = f"{name}, {kind}"
            if key in done:
                result[name][kind] = done[key]
                continue
            torch.manual_seed(SEED)
            layers: list[nn.Module] = [nn.Flatten()]
            for inputs, outputs in zip((784, *sizes), (*sizes, 10), strict=True):
                layers += [Linear(inputs, outputs, similarity=similarity), activation()]
            model = nn.Sequential(*layers[:-1])
            fit(model, data.images / 256, data.labels, made)
            keep(key, accuracy(model, data.test_images / 256, data.test_labels), done)
            result[name][kind] = done[key]
            print(f"{key}: {done[key]:.2%}", flush=True)
    return result


def two_features(similarity: str, data: Data) -> tuple[nn.Sequential, Tensor]:
    """Train LeNet-5 with two features before the last layer; return the network and the test images' features."""
    torch.manual_seed(SEED)
    layers = OrderedDict(lenet5(similarity).named_children())
    layers["fc2"], layers["norm4"] = Linear(120, 2, bias=False, similarity=similarity), nn.BatchNorm1d(2)
    layers["act4"] = nn.Identity()
    layers["fc3"] = Linear(2, 10, bias=False, similarity=similarity)
    model = nn.Sequential(layers)
    fit(model, data.images, data.labels, replace(VARIANTS[similarity].recipe, epochs=2 * EPOCHS))
    with torch.no_grad():
        return model, model[:-2](data.test_images[:1500])


def draw_features(data: Data, folder: Path) -> None:
    """AdderNet, Figure 1: features lie by angle with dot products, around centres with distances."""
    from matplotlib import pyplot  # noqa: PLC0415 - only figures need it

    figure, axes = pyplot.subplots(1, 2, figsize=(8, 4))
    for axis, similarity in zip(axes, ("adder", "dot"), strict=True):
        model, features = two_features(similarity, data)
        correct = accuracy(model, data.test_images, data.test_labels)
        axis.scatter(*features.T, c=data.test_labels[: len(features)], s=2, cmap="tab10")
        axis.set_title(f"{similarity}, {correct:.1%}", fontsize=9)
    figure.tight_layout()
    figure.savefig(folder / "features.png", dpi=75)


def draw_weights(models: Mapping[str, nn.Sequential], folder: Path) -> None:
    """AdderNet, Figure 4: the third layer's weights with the densities that fit best."""
    from matplotlib import pyplot  # noqa: PLC0415 - only figures need it

    figure, axes = pyplot.subplots(1, 2, figsize=(8, 3))
    for axis, (name, model) in zip(axes, models.items(), strict=True):
        weights = similarity_weights(model)[2].detach().flatten().numpy()
        x = np.linspace(weights.min(), weights.max(), 400)
        middle, scale = np.median(weights), np.abs(weights - np.median(weights)).mean()
        deviation, centre = weights.std(), weights.mean()
        axis.hist(weights, bins=120, density=True, color="lightgray")
        axis.plot(x, np.exp(-np.abs(x - middle) / scale) / (2 * scale), label="Laplace")
        gauss = np.exp(-0.5 * ((x - centre) / deviation) ** 2) / (deviation * np.sqrt(2 * np.pi))
        axis.plot(x, gauss, label="Gauss")
        axis.set_title(f"{name}: third layer's weights", fontsize=9)
        axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(folder / "weights.png", dpi=75)


def draw_homotopy(data: Data, dot: nn.Sequential, folder: Path) -> None:
    """EuclidNets, section 5: test accuracy after each epoch with and without homotopy and matched initialisation."""
    from matplotlib import pyplot  # noqa: PLC0415 - only figures need it

    figure, axis = pyplot.subplots(figsize=(5, 3))
    for name in ("euclid", "euclid, no homotopy", "euclid, no homotopy, not matched", "euclid, random"):
        model, curve = untrained(VARIANTS[name], data, dot), []

        def measure(_epoch: int, _epochs: int, _loss: float, model: nn.Sequential = model, curve: list = curve) -> None:
            model.eval()
            curve.append(100 * accuracy(model, data.test_images, data.test_labels))
            model.train()

        fit(model, data.images, data.labels, VARIANTS[name].recipe, measure)
        axis.plot(range(1, EPOCHS + 1), curve, marker=".", label=name)
    axis.set(xlabel="epoch", ylabel="test accuracy, %", ylim=(80, 100))
    axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(folder / "homotopy.png", dpi=75)


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path, exists=True), default=DIGITS / "data", show_default=True)
@click.option("--fresh", is_flag=True, help="Train again what an earlier run has finished.")
@click.option("--figures", type=click.Path(path_type=Path), default=ROOT / "build" / "claims", show_default=True)
def main(data: Path, fresh: bool, figures: Path) -> None:
    """Train, measure, draw, and write the results."""
    torch.set_num_threads(1)
    mnist = load_mnist(data)
    sets = Data(
        images_tensor(mnist.train_images[:IMAGES]),
        torch.from_numpy(mnist.train_labels[:IMAGES].astype(np.int64)),
        images_tensor(mnist.test_images),
        torch.from_numpy(mnist.test_labels.astype(np.int64)),
    )
    done = json.loads(CACHE.read_text(encoding="utf-8")) if CACHE.is_file() and not fresh else {}
    models = {name: trained(name, sets, done) for name in ("dot", "adder")}
    for name in VARIANTS:
        if name not in done:
            trained(name, sets, done, models["dot"])
    dense = dense_networks(sets, done)
    results = {
        "images": IMAGES,
        "epochs": EPOCHS,
        "accuracy": {name: done[name] for name in VARIANTS},
        "dense": dense,
        "correlations": correlations(),
        "gradient_norms": gradient_norms(sets),
        "weights": weight_likelihoods(models),
        "first_step": first_step_statistics(sets),
    }
    text = json.dumps(_rounded(results), indent=2) + "\n"
    (RESULTS / "multiplication_free_claims.json").write_text(text, encoding="utf-8")
    figures.mkdir(parents=True, exist_ok=True)
    draw_weights(models, figures)
    draw_features(sets, figures)
    draw_homotopy(sets, models["dot"], figures)


def _rounded(value: object) -> object:
    """Return nested results with six significant digits: more are not repeatable."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
