"""The rows of the README's table of the papers' claims: what they say, their numbers, ours, and whether it holds.

A claim holds here if ours are in the claimed order; equal means within half a point, which is noise at this size.
"""

from typing import Any

NOISE = 0.5
Row = list[str]


def claims_rows(results: dict[str, Any]) -> list[Row]:
    """Return paper, claim, the paper's numbers, ours, and "yes" or "no", one row per claim."""
    correct = {name: 100 * value for name, value in results["accuracy"].items()}
    rows = [*_adder(correct), *_euclid(correct), *_minconv(correct, results), *_trig(correct), *_thesis(results)]
    return [*rows, *_statistics(results)]


def _row(paper: str, claim: str, theirs: list[float], ours: list[float], holds: bool) -> Row:
    return [paper, claim, _listed(theirs), _listed(ours), "yes" if holds else "no"]


def _listed(values: list[float]) -> str:
    return ", ".join(f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}" for value in values)


def _better(paper: str, claim: str, theirs: tuple[float, float], ours: tuple[float, float]) -> Row:
    """The first of two is better by more than noise."""
    return _row(paper, claim, [*theirs], [*ours], ours[0] > ours[1] + NOISE)


def _adder(correct: dict[str, float]) -> list[Row]:
    paper, base = "AdderNet 4.5", correct["adder"]
    etas = [correct["adder" if eta == "0.1" else f"adder, eta {eta}"] for eta in ("1.0", "0.5", "0.2", "0.1", "0.05")]
    return [
        _row(
            "AdderNet 4.1",
            "as good as convolution",
            [99.40, 99.40],
            [base, correct["dot"]],
            base > correct["dot"] - NOISE,
        ),
        _better(paper, "adaptive rate, not the plain one", (99.40, 54.91), (base, correct["adder, no adaptive rate"])),
        _better(
            paper,
            "plain rate: full-precision, not sign gradient",
            (54.91, 29.26),
            (correct["adder, no adaptive rate"], correct["adder, no adaptive rate, sign gradient"]),
        ),
        _better(paper, "adaptive rate, not 100 times the rate", (99.40, 98.99), (base, correct["adder, rate x 100"])),
        _better(
            paper,
            "100 times the rate: full-precision, not sign gradient",
            (98.99, 97.72),
            (correct["adder, rate x 100"], correct["adder, rate x 100, sign gradient"]),
        ),
        _better(paper, "full-precision, not sign gradient", (99.40, 97.99), (base, correct["adder, sign gradient"])),
        [
            "AdderNet 3.2",
            "HardTanh on the inputs' gradient",
            "",
            _listed([base, correct["adder, no HardTanh"]]),
            "yes" if base > correct["adder, no HardTanh"] + NOISE else "no",
        ],
        _row(
            "AdderNet Table 4",
            "eta 0.1 is the best of 1, 0.5, 0.2, 0.1, 0.05",
            [99.26, 99.30, 99.35, 99.40, 99.32],
            etas,
            etas[3] == max(etas),
        ),
    ]


def _euclid(correct: dict[str, float]) -> list[Row]:
    names = ("euclid", "dot", "adder", "mfo", "minconv")
    ours = [correct[name] for name in names]
    ordered = all(a > b - NOISE for i, a in enumerate(ours) for b in ours[i + 1 :])
    paper = "EuclidNets Table 3"
    return [
        _row(
            "EuclidNets Table 4",
            "euclid >= convolution > adder > mfo > synapse (CIFAR-10)",
            [93.00, 92.97, 91.84, 82.05, 73.08],
            ours,
            ordered,
        ),
        _better(
            paper,
            "from convolution: homotopy helps",
            (93.32, 90.45),
            (correct["euclid"], correct["euclid, no homotopy"]),
        ),
        _better(paper, "homotopy, not random weights", (93.32, 93.00), (correct["euclid"], correct["euclid, random"])),
        [
            "ours",
            "from convolution: matched initialisation helps, without homotopy and with it",
            "",
            _listed(
                [
                    correct[name]
                    for name in (
                        "euclid, no homotopy",
                        "euclid, no homotopy, not matched",
                        "euclid",
                        "euclid, not matched",
                    )
                ]
            ),
            "yes"
            if correct["euclid, no homotopy"] > correct["euclid, no homotopy, not matched"] + NOISE
            and correct["euclid"] > correct["euclid, not matched"] + NOISE
            else "no",
        ],
    ]


def _minconv(correct: dict[str, float], results: dict[str, Any]) -> list[Row]:
    random, transfer = correct["minconv, Algorithm 1, random"], correct["minconv, Algorithm 1"]
    theirs = {
        "N(0,1), N(0,1)": (0.908, 0.882, 0.673),
        "N(0,1), N(0,10)": (0.692, 0.683, 0.624),
        "U(0,1), U(0,1)": (0.962, 0.926, 0.641),
        "U(0,10), U(0,1)": (0.716, 0.717, 0.655),
    }
    rows = [
        _better(
            "MinConvNets Table 5",
            "Algorithm 1: convolution's weights, not random ones (CIFAR-10)",
            (75.10, 65.54),
            (transfer, random),
        ),
        _row(
            "MinConvNets Table 5",
            "Algorithm 1 from convolution equals convolution (CIFAR-10)",
            [75.10, 75.26],
            [transfer, correct["dot"]],
            transfer > correct["dot"] - NOISE,
        ),
        [
            "ours",
            "smin's own gradient is better than Algorithm 1",
            "",
            _listed([correct["minconv"], transfer]),
            "yes" if correct["minconv"] > transfer + NOISE else "no",
        ],
    ]
    for name, values in theirs.items():
        measured = [results["correlations"][name][key] for key in ("min", "sum", "max")]
        agrees = all(abs(a - b) < 0.01 for a, b in zip(values, measured, strict=True))
        claim = f"correlation of the product with min, sum, max: {name}"
        rows.append(_row("MinConvNets Table 1", claim, [*values], measured, agrees))
    return rows


def _trig(correct: dict[str, float]) -> list[Row]:
    gammas = [correct[f"trig, gamma {gamma}"] for gamma in ("0.7", "0.5", "0.1")]
    methods = [correct[name] for name in ("dot", "trig, method 1", "trig, method 2")]
    rectified, whole = correct["trig, gamma 0.3"], correct["trig, not rectified"]
    return [
        _row(
            "thesis Table 4.6",
            "smaller gamma is better: 0.7, 0.5, 0.1 (CIFAR-100)",
            [70.58, 71.24, 72.05],
            gammas,
            gammas == sorted(gammas),
        ),
        _row(
            "thesis Table 4.5",
            "convolution, methods 1 and 2 are within 1.5 points (CIFAR-10)",
            [93.09, 91.92, 92.13],
            methods,
            max(methods) - min(methods) < 1.5,
        ),
        [
            "thesis 4.2.1",
            "rectified sine, not the whole sine, as activation",
            "",
            _listed([rectified, whole]),
            "yes" if rectified > whole + NOISE else "no",
        ],
        [
            "ours",
            "angles clamped at pi/2, not past it",
            "",
            _listed([rectified, correct["trig, sine past pi/2"]]),
            "yes" if rectified > correct["trig, sine past pi/2"] + NOISE else "no",
        ],
    ]


def _thesis(results: dict[str, Any]) -> list[Row]:
    theirs = {"Net1": (98.27, 92.39, 98.32), "Net2": (98.32, 10.87, 11.53), "Net3": (98.02, 92.21, 92.89)}
    rows = []
    for name, values in theirs.items():
        ours = [100 * results["dense"][name][kind] for kind in ("ReLU", "sine", "rectified sine")]
        # Same order, and fails where theirs fails.
        same = all(
            (abs(values[i] - values[j]) < NOISE)
            if abs(ours[i] - ours[j]) < NOISE
            else (values[i] > values[j]) == (ours[i] > ours[j])
            for i in range(3)
            for j in range(i)
        )
        rows.append(_row("thesis Table 4.3", f"{name}: ReLU, sine, rectified sine", [*values], ours, same))
    return rows


def _statistics(results: dict[str, Any]) -> list[Row]:
    norms, weights, first = results["gradient_norms"], results["weights"], results["first_step"]
    laplace = {name: fits["laplace"] - fits["gauss"] for name, fits in weights.items()}
    spread = [max(row["sigma_W"] for row in first), max(row["sigma_E"] for row in first)]
    return [
        _row(
            "AdderNet Table 1",
            "gradients of the first layers at the first step are small: adder, convolution",
            [0.0009, 0.0012, 0.0146, 0.2261, 0.2990, 0.4646],
            [*norms["adder"], *norms["dot"]],
            all(a < b for a, b in zip(norms["adder"], norms["dot"], strict=True)),
        ),
        [
            "AdderNet Figure 4",
            "weights are Laplace with adder, Gauss with convolution (difference of log-likelihoods)",
            "",
            _listed([laplace["adder"], laplace["dot"]]),
            "yes" if laplace["adder"] > 0 > laplace["dot"] else "no",
        ],
        _row(
            "thesis Table 4.1",
            "weights and errors are small at the first step: largest deviation of a layer",
            [0.00348, 1.76e-7],
            spread,
            max(spread) < 0.1,
        ),
    ]
