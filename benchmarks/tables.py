"""Writes the README's tables from benchmarks/results/, between their markers. Prints nothing it did not measure.

python benchmarks/tables.py            rewrite README.md
python benchmarks/tables.py --check    exit 1 if README.md is not what the results say

Also writes benchmarks/KERNELS.md.
"""

import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click
from claims_rows import claims_rows
from kernel_rows import all_rows, best_rows

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"
KERNELS = ROOT / "benchmarks" / "KERNELS.md"
# Million instructions of ResNet-8 in int8 by CMSIS-NN (-Ofast), without and with a multiplier on RV32.
CMSIS_NN_RESNET8 = {"rv32ec": 1000, "rv32imac": 65.3, "cortex-m0": 97.6, "cortex-m4": 29.9}
# Thesis, Table 3.1 (percent) and Table 3.5 (fractions): hidden size -> LogQuant, DLQ, float.
THESIS_3_1 = {"dense_784_16_10": 94.125, "four_view_64_16_10": 96.035}
THESIS_3_5 = {
    1000: (0.9831, 0.9846, 0.9841),
    600: (0.9796, 0.9801, 0.9792),
    200: (0.9798, 0.9814, 0.9811),
    100: (0.9726, 0.9753, 0.9751),
    80: (0.9748, 0.9744, 0.9751),
    60: (0.9611, 0.9683, 0.9723),
    40: (0.9510, 0.9690, 0.9701),
    20: (0.9159, 0.9550, 0.9626),
    10: (0.8056, 0.9300, 0.9376),
}
# CIFAR-10, percent: AdderNet (arXiv:1912.13200), Table 2, and EuclidNets (arXiv:2212.11803), Tables 3 and 4, where
# minconv is called synapse.
RESNET20 = {"dot": "92.25, 92.97", "adder": "91.84", "euclid": "93.00, 93.32", "minconv": "73.08"}
# BitNetMCU (https://github.com/cpldcpu/BitNetMCU), percent and instructions on RV32EC, measured in the same emulator.
BIT_NET_MCU = (("12k FP1.3.0", "98.86", "215,000", "14.6 KB"), ("12k, 4 bits", "99.02", "431,000", "13.8 KB"))
Results = dict[str, Any]


def examples_table(results: Results) -> str:
    """Thesis Table 3.1 and the example models in every encoding."""
    rows = [["network", "thesis", "float", "int8", "int4", "LogQuant 4", "DLQ 4", "half-step DLQ"]]
    for name, accuracy in results["accuracy"]["examples"].items():
        thesis = f"{THESIS_3_1[name]:.3f}" if name in THESIS_3_1 else ""
        keys = ("float", "int8", "int4", "log4", "dlq4", "dlq4half")
        rows.append([f"`{name}`", thesis, *(f"{accuracy[key]:.2f}" for key in keys)])
    return markdown(rows)


def hidden_table(results: Results) -> str:
    """Thesis Table 3.5: hidden sizes against encodings, ours as printed in the thesis and as compiled."""
    head = ["hidden", "thesis float", "LogQuant", "DLQ", "our float", "LogQuant 4", "DLQ 4", "LogQuant 4 c", "DLQ 4 c"]
    rows = [head]
    for hidden, (log_quant, decimal, real) in THESIS_3_5.items():
        ours = results["accuracy"]["mlp"][str(hidden)]
        keys = ("float", "log4 uncorrected", "dlq4 uncorrected", "log4", "dlq4")
        printed = [f"{100 * value:.2f}" for value in (real, log_quant, decimal)]
        rows.append([str(hidden), *printed, *(f"{ours[key]:.2f}" for key in keys)])
    return markdown(rows)


def hifive1_table(results: Results) -> str:
    """What 64-16-10 costs on the HiFive1."""
    return _cost_table(results, "hifive1")


def ch32v003_table(results: Results) -> str:
    """What 64-16-10 costs on the CH32V003."""
    return _cost_table(results, "ch32v003")


def _cost_table(results: Results, board: str) -> str:
    rows = [["weights", "no multiply", "flash", "RAM", "arena", "stack", "of RAM", "instructions", "accuracy"]]
    accuracy = results["accuracy"]["examples"][results["firmware"]["model"]]
    for run in results["firmware"]["runs"]:
        if run["board"] == board:
            sizes = [f"{run[key]:,}" for key in ("flash_bytes", "ram_bytes", "arena_bytes", "stack_bytes")]
            share = f"{100 * run['ram_bytes'] / run['ram_limit_bytes']:.0f} %"
            proven = "proven" if run["no_multiply"] else ""
            correct = f"{accuracy[run['weights']]:.2f}"
            rows.append([run["weights"], proven, *sizes, share, f"{run['instructions']:,}", correct])
    return markdown(rows)


def exactness_table(results: Results) -> str:
    """How many answers were compared, and how many differ."""
    firmware = results["firmware"]
    rows = [["where", "firmware", "inputs each", "layers each", "mismatches"]]
    host = firmware["host"]
    rows.append(["host", str(len(host)), f"{host[0]['inputs']:,}", "all", str(sum(r["mismatches"] for r in host))])
    for board in dict.fromkeys(run["board"] for run in firmware["runs"]):
        runs = [run for run in firmware["runs"] if run["board"] == board]
        emulators = dict.fromkeys(name for run in runs for name in run["emulators"])
        where = f"{board} ({', '.join(emulators)})"
        mismatches = sum(run["mismatches"] for run in runs)
        rows.append([where, str(len(runs)), f"{runs[0]['inputs']:,}", "all", str(mismatches)])
    return markdown(rows)


def boards_table(results: Results) -> str:
    """Instructions per inference on every board."""
    runs = results["firmware"]["runs"]
    encodings = list(dict.fromkeys(run["weights"] for run in runs))
    rows = [["board", *encodings, *(f"{name}, no multiply" for name in encodings)]]
    for board in dict.fromkeys(run["board"] for run in runs):
        cells = []
        for no_multiply in (False, True):
            for weights in encodings:
                found = [
                    run
                    for run in runs
                    if (run["board"], run["weights"], run["no_multiply"]) == (board, weights, no_multiply)
                ]
                cells.append(f"{found[0]['instructions']:,}" if found else "")
        rows.append([board, *cells])
    return markdown(rows)


def speed_table(results: Results) -> str:
    """How the compiler's own time grows with layers and with weights."""
    rows = [["growing", "layers", "weights", "size", "time", "peak memory"]]
    for name, series in results["speed"].items():
        for point in series["points"]:
            sizes = [f"{point['layers']:,}", f"{point['parameters']:,}"]
            ratios = [f"{point['size_ratio']:.1f}", f"{point['time_ratio']:.1f}"]
            rows.append([name, *sizes, *ratios, f"{point['peak_mebibytes']:,} MiB"])
    return markdown(rows)


def memory_table(results: Results) -> str:
    """Arena bytes of larger networks under the three ways to plan it."""
    head = ["network", "input", "largest tensor", "all apart", "in place", "bound", "row by row", "bound"]
    keys = ("input", "largest_tensor", "apart", "in_place", "in_place_bound", "streamed", "streamed_bound")
    rows = [head]
    for name, plan in results["memory"]["networks"].items():
        rows.append([name, *(f"{plan[f'{key}_bytes']:,}" for key in keys)])
    return markdown(rows)


def resnet8_table(results: Results) -> str:
    """ResNet-8 on 16 KB of RAM."""
    run = results["memory"]["hifive1"]
    sizes = [f"{run[key]:,}" for key in ("flash_bytes", "ram_bytes", "ram_limit_bytes", "arena_bytes", "stack_bytes")]
    checked = [f"{run[key]:,}" for key in ("instructions", "inputs", "layers", "mismatches")]
    head = ["flash", "RAM", "of", "arena", "stack", "instructions", "inputs", "layers each", "mismatches"]
    return markdown([head, [*sizes, *checked]])


def conformance_table(results: Results) -> str:
    """How many of the ONNX project's node tests pass, and why the others do not count."""
    found = results["conformance"]
    rows = [["node tests of onnx " + found["onnx"], "count"]]
    rows.append(["**pass**: float execution, C and error bound", f"{found['passed']:,}"])
    rows.append(["wrong", str(found["wrong"])])
    rows.append(["right, but eight bits are too few", str(found["inaccurate"])])
    rows.append(["refused: operators and forms that are not covered", f"{found['refused']:,}"])
    rows.append(["outside: not static, small and on real numbers", f"{found['outside']:,}"])
    rows.append(["in the package", f"{found['found']:,}"])
    return markdown(rows)


def kernel_trust_table(results: Results) -> str:
    """How many layers every kernel was compared on, by core and multiplier, over tool chains and levels."""
    found = results["kernel_trust"]["builds"]
    rows = [["board", "multiplier", "builds", "kernels in a build", "layers with a kernel", "differ"]]
    for board, multiplier in dict.fromkeys((build["board"], build["multiplier"]) for build in found):
        mine = [build for build in found if (build["board"], build["multiplier"]) == (board, multiplier)]
        pairs, wrong = sum(build["pairs"] for build in mine), sum(len(build["wrong"]) for build in mine)
        kernels = max(build["kernels"] for build in mine)
        rows.append([board, "yes" if multiplier else "no", str(len(mine)), str(kernels), f"{pairs:,}", str(wrong)])
    return markdown(rows)


def real_networks_table(results: Results) -> str:
    """ResNet-8 on CIFAR-10 images and the autoencoder, by weights and activations."""
    resnet, encoder = results["real"]["resnet8"], results["real"]["autoencoder"]
    rows = [["network", "weights", "activations", "weights, bytes", "accuracy", "class as in float", "error"]]
    rows.append(["ResNet-8", "float", "float", "", f"{resnet['float']:.2f}", "", ""])
    for run in resnet["runs"]:
        weights = run["weights"] if "=" not in run["weights"] else f"int8, {run['weights'].count('=')} layers int4"
        cells = [f"{run['weight_bytes']:,}", f"{run['accuracy']:.2f}", f"{run['same_class_as_float']:.2f}", ""]
        rows.append(["ResNet-8", weights, run["activations"], *cells])
    rows.append(["autoencoder", "float", "float", "", "", "", f"{encoder['float']:.2f}"])
    for run in encoder["runs"]:
        cells = [f"{run['weight_bytes']:,}", "", "", f"{run['error']:.2f}"]
        rows.append(["autoencoder", run["weights"], run["activations"], *cells])
    return markdown(rows)


def activation_methods_table(results: Results) -> str:
    """A table and CORDIC for functions of activations."""
    rows = [["functions", "activations", "flash, table", "flash, CORDIC", "a value, table", "a value, CORDIC"]]
    runs = results["activation_methods"]["runs"]
    for table, cordic in zip(runs[::2], runs[1::2], strict=True):
        flash = [f"{run['flash_bytes']:,}" for run in (table, cordic)]
        counts = [f"{run['instructions_per_value']:.0f}" for run in (table, cordic)]
        rows.append([", ".join(table["functions"]), table["activations"], *flash, *counts])
    return markdown(rows)


def similarities_table(results: Results) -> str:
    """LeNet-5 of every similarity."""
    return _similarity_costs(results["similarities"])


def multiplying_table(results: Results) -> str:
    """LeNet-5 of every similarity on a Cortex-M4 that may multiply."""
    found = {name: run["multiplying"] for name, run in results["similarities"].items() if "multiplying" in run}
    ordinary = found["dot"]["instructions"]
    rows = [["similarity", f"{found['dot']['board']}, instructions", "each term", "of dot's"]]
    for name, run in found.items():
        each, share = run["instructions"] / run["terms"], run["instructions"] / ordinary
        rows.append([name, f"{run['instructions']:,}", f"{each:.2f}", f"{share:.2f}"])
    return markdown(rows)


def residual_similarities_table(results: Results) -> str:
    """A small ResNet of each similarity, with what the papers reach by ResNet-20."""
    return _similarity_costs(results["residual_similarities"], {"ResNet-20 in the papers": RESNET20})


def _similarity_costs(found: Results, further: Mapping[str, Mapping[str, str]] = MappingProxyType({})) -> str:
    """Percent correct of so many images (torch: 10,000), cost on two boards, and further columns by similarity."""
    boards = list(next(iter(found.values()))["boards"])
    head = ["similarity", *further, "torch", "onnxruntime", "integer = C", "images", "mismatches"]
    rows = [[*head, *(f"{board}, {what}" for board in boards for what in ("instructions", "RAM"))]]
    for name, run in found.items():
        theirs = [column.get(name, "") for column in further.values()]
        accuracies = (100 * run["torch"], run["onnxruntime"], run["integer"])
        differing = run["host"]["mismatches"] + sum(run["boards"][board]["mismatches"] for board in boards)
        costs = [f"{run['boards'][board][key]:,}" for board in boards for key in ("instructions", "ram_bytes")]
        counts = [f"{run['host']['inputs']:,}", str(differing)]
        rows.append([name, *theirs, *(f"{accuracy:.2f}" for accuracy in accuracies), *counts, *costs])
    return markdown(rows)


def shift_digits_table(results: Results) -> str:
    """MNIST on the CH32V003: the network of shifts beside BitNetMCU's."""
    found = results["shift_digits"]
    rows = [["network", "accuracy", "instructions", "flash", "RAM", "mismatches"]]
    rows += [[f"BitNetMCU {name}", accuracy, count, flash, "", ""] for name, accuracy, count, flash in BIT_NET_MCU]
    differing = sum(found[board]["mismatches"] for board in ("host", "ch32v003"))
    sizes = [f"{found[key]:,}" for key in ("instructions", "flash_bytes", "ram_bytes")]
    rows.append([f"`shift_digits`, {found['weights']:,} weights", f"{found['accuracy']:.2f}", *sizes, str(differing)])
    return markdown(rows)


def quantized_models_table(results: Results) -> str:
    """Models that come quantized, against onnxruntime: each layer alone, and all of them in a row."""
    head = ["model", "quantized as", "tensors", "values", "each layer: equal, %", "off by", "whole: equal, %", "off by"]
    rows = [head]
    for row in results["quantized"]["rows"]:
        cells = [str(row[way][key]) for way in ("alone", "whole") for key in ("equal", "largest")]
        rows.append([f"`{row['model']}`", row["form"], str(row["tensors"]), f"{row['values']:,}", *cells])
    return markdown(rows)


def training_speed_table(results: Results) -> str:
    """What a training step costs, beside torch's own layers."""
    rows = [["similarity", "gradient", "a step, ms", "times torch's own"]]
    for run in results["training_speed"]["runs"]:
        rows.append([run["similarity"], run["gradient"], f"{run['milliseconds']:.1f}", f"{run['ratio']:.2f}"])
    return markdown(rows)


def claims_table(results: Results) -> str:
    """What the papers on multiplication-free networks claim, and whether it holds on MNIST."""
    return markdown([["source", "claim", "theirs", "ours", "holds"], *claims_rows(results["claims"])])


def kernels_table(results: Results) -> str:
    """The fastest kernel of each layer and core, beside CMSIS-NN."""
    return markdown([["layer", "sums", "RV32EC", "RV32IMAC", "Cortex-M0", "Cortex-M4"], *best_rows(results["kernels"])])


def resnet8_speed_table(results: Results) -> str:
    """ResNet-8's instructions on every core, beside CMSIS-NN."""
    rows = [["weights", "accuracy", "core", "instructions (cycles)", "CMSIS-NN int8", "flash", "RAM"]]
    for run in results["resnet8_speed"]:
        counts = f"{run['instructions'] / 1e6:.1f} ({run['cycles'] / 1e6:.1f})"
        sizes = (f"{run['flash_bytes']:,}", f"{run['ram_bytes']:,}")
        accuracy = f"{run['accuracy']:.2f}"
        rows.append([run["weights"], accuracy, run["core"], counts, f"{CMSIS_NN_RESNET8[run['core']]:g}", *sizes])
    return markdown(rows)


def all_kernels(results: Results) -> str:
    """Return the page of all kernels."""
    head = ["layer", "sums", "core", "kernel", "instructions", "cycles", "declared", "code", "tables", "scratch"]
    return (
        "# Kernels\n\nInstructions and estimated cycles for each weight operation, the share of the instructions that "
        "the kernel declares, bytes of code, of weights and tables (of weights that are code, the code again) and of "
        "scratch. Written by `benchmarks/tables.py` from what `benchmarks/kernels.py` measured.\n\n"
        f"{markdown([head, *all_rows(results['kernels'])])}\n"
    )


TABLES: dict[str, Callable[[Results], str]] = {
    "examples": examples_table,
    "hidden": hidden_table,
    "hifive1": hifive1_table,
    "ch32v003": ch32v003_table,
    "boards": boards_table,
    "exactness": exactness_table,
    "real_networks": real_networks_table,
    "activation_methods": activation_methods_table,
    "shift_digits": shift_digits_table,
    "quantized_models": quantized_models_table,
    "memory": memory_table,
    "resnet8": resnet8_table,
    "kernels": kernels_table,
    "resnet8_speed": resnet8_speed_table,
    "similarities": similarities_table,
    "multiplying": multiplying_table,
    "residual_similarities": residual_similarities_table,
    "speed": speed_table,
    "conformance": conformance_table,
    "kernel_trust": kernel_trust_table,
    "training_speed": training_speed_table,
    "claims": claims_table,
}


def markdown(rows: list[list[str]]) -> str:
    """Return a table; the first row is its head, numbers are right-aligned."""
    head, *body = rows
    numeric = [all(re.fullmatch(r"[\d,.]* ?%?", row[i]) for row in body) for i in range(len(head))]
    rule = ["---:" if is_number else "---" for is_number in numeric]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *body))


def render(text: str, results: Results) -> str:
    """Return the README with every table between its markers replaced."""
    for name, table in TABLES.items():
        pattern = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not pattern.search(text):
            raise SystemExit(f"README.md has no marker for the table '{name}'")
        before, after = pattern.split(text, maxsplit=1)[::3]
        text = f"{before}<!-- table: {name} -->\n{table(results)}\n<!-- end -->{after}"
    return text


def load_results() -> Results:
    """Return the stored results."""
    files = {
        "accuracy": "digits_accuracy",
        "firmware": "digits_firmware",
        "speed": "compile_speed",
        "real": "real_networks",
        "quantized": "quantized_models",
        "memory": "memory",
        "activation_methods": "activation_methods",
        "conformance": "conformance",
        "training_speed": "training_speed",
        "similarities": "multiplication_free",
        "residual_similarities": "multiplication_free_resnet8",
        "claims": "multiplication_free_claims",
        "shift_digits": "shift_digits",
        "kernels": "kernels",
        "resnet8_speed": "resnet8_speed",
        "kernel_trust": "kernel_trust",
    }
    return {name: json.loads((RESULTS / f"{file}.json").read_text(encoding="utf-8")) for name, file in files.items()}


@click.command(help=__doc__)
@click.option("--check", is_flag=True, help="Change nothing; exit 1 if the README is not what the results say.")
def main(check: bool) -> None:
    """Rewrite or check the README."""
    results = load_results()
    text = README.read_text(encoding="utf-8")
    pages = {README: render(text, results), KERNELS: all_kernels(results)}
    if check:
        sys.exit(any(not page.exists() or page.read_text(encoding="utf-8") != now for page, now in pages.items()))
    for page, now in pages.items():
        page.write_text(now, encoding="utf-8")


if __name__ == "__main__":
    main()
