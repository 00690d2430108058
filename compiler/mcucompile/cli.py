"""The command line: one verb, one call; prints errors, never a traceback, for a user's mistake."""

import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from mcucompile import __version__, show
from mcucompile.bench import bench_project, beside_plain
from mcucompile.calibrate import as_codes, as_samples
from mcucompile.data import load_array, load_labels
from mcucompile.driver import OPTIMIZE, STREAMING, analyze_model, compile_model
from mcucompile.encodings import ENCODINGS
from mcucompile.errors import UserError
from mcucompile.ir import Array
from mcucompile.output import write_files
from mcucompile.project import EMULATORS, Project, choose_emulator, devices, load_project
from mcucompile.reference import load_samples
from mcucompile.report import FACTS_REPORT, PAGE_FILE, write_report
from mcucompile.targets.boards import list_boards, load_board
from mcucompile.targets.flash import flash_project
from mcucompile.tune import KERNELS_FILE, count_plain, tune
from mcucompile.verify import verify_devices

_INTERNAL_FAULT = 70
_INTERRUPTED = 130


class _DefaultVerb(click.Group):
    """A group whose first argument may be a model instead of a verb: then the verb is `compile`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        verbs = self.list_commands(ctx)
        if args[0] in verbs:
            return super().resolve_command(ctx, args)
        if args[0].isalpha() and not Path(args[0]).exists():
            raise click.UsageError(f"'{args[0]}' is neither a file nor one of {', '.join(verbs)}", ctx)
        return super().resolve_command(ctx, ["compile", *args])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # An option before the model ("--target hifive1 model.onnx") also means `compile`.
        if args and args[0].startswith("-") and args[0] not in ("--help", "-h", "--version"):
            args = ["compile", *args]
        return super().parse_args(ctx, args)


@click.group(
    cls=_DefaultVerb,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: mcucompile model.onnx --target hifive1 --samples images.npy",
)
@click.version_option(__version__)
def cli() -> None:
    """Compile a trained network to exact fixed-point C firmware for a microcontroller, and prove it.

    `mcucompile MODEL --target BOARD` is short for `mcucompile compile MODEL --target BOARD`.
    """


def _kernels(text: str) -> str:
    """Return a choice of kernels, read from a file if the text is @FILE."""
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--kernels {text}", "cannot be read", "give @ and the file of `bench --tune`") from error


def _model_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that compile and analyze share."""
    encodings = ", ".join(ENCODINGS)
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text."),
        click.option("--name", metavar="NAME", help="Prefix of the C names; default: the model file's name."),
        click.option("--csd-terms", type=int, default=2, show_default=True, help="Shifts in a requantization, 1 to 3."),
        click.option(
            "--bias-correction/--no-bias-correction",
            default=True,
            show_default=True,
            help="Let biases and other weights take back what rounding a weight does on the samples.",
        ),
        click.option("--no-multiply", is_flag=True, help="Prove that the firmware holds no multiply and no divide."),
        click.option(
            "--weights",
            default="int8",
            show_default=True,
            metavar="SPEC",
            help=f"Encoding of all weights, or per layer: int8,fc1=dlq4. Encodings: {encodings}.",
        ),
        click.option(
            "--activations",
            default="int8",
            show_default=True,
            metavar="SPEC",
            help="int8 or int16 between layers, or per layer: int8,fc3=int16. int16 suits outputs that are measured.",
        ),
        click.option(
            "--activation-method",
            default="table",
            show_default=True,
            metavar="SPEC",
            help="table or cordic, or per layer: table,act1=cordic. CORDIC: sin, cos, exp, sigmoid, tanh, softmax.",
        ),
        click.option(
            "--kernels",
            default="",
            metavar="SPEC",
            callback=lambda _context, _option, text: _kernels(text),
            help="Kernels of layers instead of the cheapest: fc1=bins,conv1=multiply, or @FILE with such a text.",
        ),
        click.option(
            "--optimize",
            type=click.Choice(OPTIMIZE),
            default="balanced",
            show_default=True,
            help="Choose kernels for few instructions, for little flash, or for a small product of the two.",
        ),
        click.option(
            "--streaming",
            type=click.Choice(STREAMING),
            default="auto",
            show_default=True,
            help="Run layers row by row, in rings of rows: if whole tensors do not fit, never or always.",
        ),
        click.option("--samples", metavar="FILE", help="Calibration inputs, .npy or .npz: real data, a hundred or so."),
    ):
        command = option(command)
    return command


@cli.command(
    "compile",
    epilog="Example: mcucompile compile model.onnx --target hifive1 --samples images.npy --weights dlq4 -o build",
)
@click.argument("model")
@click.option("--target", default="host", show_default=True, metavar="BOARD", help="A board's name or file.")
@click.option("-o", "--output", default="build", show_default=True, metavar="DIR", help="The project to write.")
@click.option("--toolchain", type=click.Choice(["auto", "gcc", "zig"]), default="auto", show_default=True)
@_model_options
def compile_command(model: str, target: str, output: str, toolchain: str, as_json: bool, **options: Any) -> None:
    """Compile MODEL (.onnx or .pt2), build firmware, say what it costs and whether it fits.

    Exit code 1 if it does not fit; then nothing is written.
    """
    samples = options.pop("samples")
    with show.progress(quiet=as_json) as progress:
        compiled = compile_model(
            model, target=target, samples=samples, output=output, progress=progress, toolchain=toolchain, **options
        )
    if as_json:
        show.json_text(compiled.facts())
    else:
        show.compiled(compiled)
    sys.exit(0 if compiled.fits else 1)


@cli.command(epilog="Example: mcucompile analyze model.onnx --target hifive1 --target microbit")
@click.argument("model")
@click.option("--target", "targets", multiple=True, default=("host",), metavar="BOARD", help="May be repeated.")
@_model_options
def analyze(model: str, targets: Sequence[str], as_json: bool, **options: Any) -> None:
    """Say what MODEL would cost on each target, without building: layers, sizes, what is unsupported.

    Exit code 1 if it would not fit one of the targets.
    """
    samples = options.pop("samples")
    boards = [load_board(target) for target in targets]
    with show.progress(quiet=as_json) as progress:
        results = [
            analyze_model(model, target=board, samples=samples, progress=progress, **options) for board in boards
        ]
    if as_json:
        facts = [result.facts() for result in results]
        # One target: its facts at the top, as of compile. More: the first one's, and all under "targets".
        show.json_text(facts[0] | {"fits": all(f["fits"] for f in facts), "targets": facts})
    else:
        show.analyzed(results)
    sys.exit(0 if all(result.fits for result in results) else 1)


@cli.command(epilog="Example: mcucompile verify build --on emulator --inputs images.npy --labels labels.npy")
@click.argument("directory", type=click.Path(path_type=Path), default="build")
@click.option(
    "--on",
    default="emulator",
    show_default=True,
    metavar="DEVICE",
    help="emulator (the host and the board's emulator), host, qemu, unicorn, or a port: /dev/ttyUSB0.",
)
@click.option("--inputs", metavar="FILE", help="Inputs, .npy or .npz; default: a few calibration samples and edges.")
@click.option("--labels", metavar="FILE", help="Classes, .npy or .npz: also report the accuracy.")
@click.option("--limit", type=click.IntRange(min=1), help="Use the first inputs only.")
@click.option("--layers", is_flag=True, help="Print a table of the layers.")
@click.option("--baud", type=int, default=115200, show_default=True, help="Of a port.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def verify(
    directory: Path,
    on: str,
    inputs: str | None,
    labels: str | None,
    limit: int | None,
    layers: bool,
    baud: int,
    as_json: bool,
) -> None:
    """Check that the firmware in DIRECTORY answers exactly as Python does, layer by layer.

    Names the first layer and index that differ, with both values; --json always lists the layers.
    Exit code 1 if anything differs.
    """
    project = load_project(directory)
    codes = _input_codes(project, inputs)
    classes = None if labels is None else load_labels(labels, len(codes))[:limit]
    codes = codes[:limit]
    with show.counted_progress(len(codes), quiet=as_json) as progress:
        result = verify_devices(
            project.graph,
            codes,
            devices(project, on, baud=baud),
            model_hash=project.digest,
            labels=classes,
            progress=progress,
        )
    if as_json:
        show.json_text(result.facts())
    else:
        show.verification(result, project, layers=layers)
    sys.exit(0 if result.ok else 1)


@cli.command(epilog="Example: mcucompile bench build --on emulator")
@click.argument("directory", type=click.Path(path_type=Path), default="build")
@click.option("--on", type=click.Choice(["emulator", *EMULATORS]), default="emulator", show_default=True)
@click.option("--inputs", metavar="FILE", help="Inputs, .npy or .npz; default: a few calibration samples.")
@click.option("--limit", type=click.IntRange(min=1), default=16, show_default=True, help="Use the first inputs only.")
@click.option("--plain", is_flag=True, help="Also build and count each layer's plain kernel.")
@click.option("--tune", "tunes", is_flag=True, help="Measure every kernel of each layer; write DIRECTORY/kernels.txt.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def bench(directory: Path, on: str, inputs: str | None, limit: int, plain: bool, tunes: bool, as_json: bool) -> None:
    """Count the instructions of one inference, exactly, in all and for each layer.

    With --tune, kernels are chosen by what they really take: compile again with --kernels @DIRECTORY/kernels.txt.
    """
    project = load_project(directory)
    codes = load_samples(directory) if inputs is None else _input_codes(project, inputs)
    codes = codes[:limit]
    emulator = _emulator(project, on)
    tuning = None
    with show.progress(quiet=as_json) as progress:
        progress(f"counting in {emulator}")
        result = bench_project(project, emulator, codes)
        if plain:
            progress("counting plain kernels")
            result = beside_plain(result, count_plain(project, codes))
        if tunes:
            tuning = tune(project, codes, progress=progress)
            write_files(directory, {KERNELS_FILE: tuning.kernels + "\n"})
    if as_json:
        show.json_text(result.facts() | ({} if tuning is None else {"tuning": tuning.facts()}))
        return
    show.bench(result)
    if tuning is not None:
        show.tuning(tuning, directory / KERNELS_FILE)


@cli.command(epilog="Example: mcucompile report build --on emulator")
@click.argument("directory", type=click.Path(path_type=Path), default="build")
@click.option("-o", "--output", metavar="DIR", type=click.Path(path_type=Path), help="Default: the project itself.")
@click.option("--on", type=click.Choice(["emulator", *EMULATORS]), help="Count instructions; default: estimates.")
@click.option("--limit", type=click.IntRange(min=1), default=4, show_default=True, help="Count the first samples only.")
@click.option("--json", "as_json", is_flag=True, help="Print the JSON, too.")
def report(directory: Path, output: Path | None, on: str | None, limit: int, as_json: bool) -> None:
    """Write report.html, a page about the project in DIRECTORY, and report.json.

    Graph, memory over time, and for each layer flash, RAM, instructions, accuracy and weights.
    """
    project = load_project(directory)
    bench = None
    if on is not None:
        with show.progress(quiet=as_json) as progress:
            progress(f"counting in {on}")
            bench = bench_project(project, _emulator(project, on), load_samples(directory)[:limit])
    target = directory if output is None else output
    facts = write_report(project, bench, target)
    if as_json:
        show.json_text(facts)
    else:
        print(f"wrote {target / PAGE_FILE} and {target / FACTS_REPORT}")


@cli.command(epilog="Example: mcucompile flash build --port /dev/ttyUSB0 --dry-run")
@click.argument("directory", type=click.Path(path_type=Path), default="build")
@click.option("--runner", metavar="NAME", help="How to flash: see `mcucompile boards`; default: the board's first.")
@click.option("--port", metavar="PORT", help="The board's port, for runners that need one.")
@click.option("--dry-run", is_flag=True, help="Print the command and do nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def flash(directory: Path, runner: str | None, port: str | None, dry_run: bool, as_json: bool) -> None:
    """Write the firmware in DIRECTORY to its board."""
    project = load_project(directory)
    with show.progress(quiet=as_json) as progress:
        progress(f"flashing {project.board.name}")
        outcome = flash_project(directory, project.board, runner=runner, port=port, dry_run=dry_run)
    if as_json:
        show.json_text({"board": project.board.name, "dry_run": dry_run, "command": list(outcome)})
    else:
        show.flashed(outcome, dry_run=dry_run)


@cli.command(epilog="Example: mcucompile boards --json")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def boards(as_json: bool) -> None:
    """List the boards."""
    show.boards(list_boards(), as_json=as_json)


@cli.command(epilog="Example: mcucompile ops")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def ops(as_json: bool) -> None:
    """List the operators, weight encodings and kernels."""
    show.operators(as_json=as_json)


def _emulator(project: Project, on: str) -> str:
    is_chosen = on == "emulator" and not project.board.is_host
    return choose_emulator(project.board, for_cycles=True) if is_chosen else on


def _input_codes(project: Project, inputs: str | None) -> Array:
    """Return the user's inputs as codes; without any, stored samples and the ends of the input's range."""
    tensor = project.graph.input
    if inputs is None:
        edges = [np.full((1, *tensor.shape), code) for code in (tensor.stored.minimum, 0, tensor.stored.maximum)]
        return np.concatenate([load_samples(project.directory), *edges])
    return as_codes(as_samples(load_array(inputs, "inputs"), tensor, inputs), tensor.stored)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 ok, 1 does not fit or verify, 2 the user's mistake."""
    as_json = "--json" in (sys.argv if arguments is None else arguments)
    try:
        cli.main(args=None if arguments is None else list(arguments), prog_name="mcucompile", standalone_mode=False)
    except UserError as error:
        show.user_error(error, as_json=as_json)
        sys.exit(error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        context = error.ctx if isinstance(error, click.UsageError) else None
        command = context.command_path if context is not None else "mcucompile"
        usage = UserError(command, error.format_message().rstrip("."), f"see {command} --help")
        show.user_error(usage, as_json=as_json)
        sys.exit(usage.exit_code)
    except (click.Abort, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        sys.exit(_INTERRUPTED)
    except Exception:
        traceback.print_exc()
        print("internal fault: this is a mistake in mcucompile, not yours; please report it", file=sys.stderr)
        sys.exit(_INTERNAL_FAULT)
