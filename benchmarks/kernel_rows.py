"""The rows of the README's tables of kernels: instructions for each weight operation, CMSIS-NN's beside ours."""

from typing import Any

CORES = ("rv32ec", "rv32imac", "cortex-m0", "cortex-m4")
# CMSIS-NN int8 (-Ofast) on the same layers in the same emulator: RV32 without and with multiplier, M0, M4.
CMSIS_NN = {
    "conv 3x3 16x16x32->32": (85.8, 4.78, 6.70, 1.93),
    "fc 256->64": (50.4, 5.51, 6.43, 2.08),
    "conv 1x1 16x16x32->32": (136, 5.30, 9.06, 2.70),
    "depthwise 3x3 16x16x32": (172, 16.6, 37.8, 8.78),
    "fc 64->16": (None, None, 8.01, 2.77),
    "fc 64->16, half zeros": (None, None, 8.01, 2.77),
}
Row = list[str]


def best_rows(results: list[dict[str, Any]]) -> list[Row]:
    """Return the fastest kernel of each layer and sum on each core, behind what CMSIS-NN takes."""
    rows = []
    for layer, theirs in CMSIS_NN.items():
        rows.append([layer, "CMSIS-NN int8", *("" if each is None else f"{each:g}" for each in theirs)])
        found = [row for row in results if row["layer"] == layer]
        for similarity, weights in dict.fromkeys((row["similarity"], row["weights"]) for row in found):
            of_sum = [row for row in found if (row["similarity"], row["weights"]) == (similarity, weights)]
            cells = []
            for core in CORES:
                on_core = [row for row in of_sum if row["core"] == core]
                best = min(on_core, key=lambda row: row["instructions"])
                cells.append(f"{best['instructions'] / best['operations']:.3g} {best['kernel']}")
            rows.append(["", f"{similarity} {weights}", *cells])
    return rows


def all_rows(results: list[dict[str, Any]]) -> list[Row]:
    """Return every kernel: instructions and cycles for each operation, the declared share, code, tables, scratch."""
    rows = []
    for row in results:
        operations, instructions = row["operations"], row["instructions"]
        figures = (instructions / operations, row["cycles"] / operations, row["declared"] / instructions)
        sizes = (row["code_bytes"], row["declared_bytes"], row["stack_bytes"])
        names = (row["layer"], f"{row['similarity']} {row['weights']}", row["core"], row["kernel"])
        rows.append([*names, *(f"{figure:.3g}" for figure in figures), *(f"{size:,}" for size in sizes)])
    return rows
