"""mcucompile compiles a trained network to exact fixed-point C firmware for small microcontrollers.

    compiled = mcucompile.compile_model("digits.onnx", target="hifive1", samples="images.npy", output="build")
    compiled.fits, compiled.facts()["flash_bytes"]

Public are the names in `__all__`. They are imported when first used: `import mcucompile.nn` in a training script
needs none of the compiler, and the compiler needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcucompile.driver import Compiled, analyze_model, compile_model
    from mcucompile.errors import UserError
    from mcucompile.targets.boards import Board, list_boards, load_board

__version__ = "0.1.0"
__all__ = [
    "Board",
    "Compiled",
    "UserError",
    "__version__",
    "analyze_model",
    "compile_model",
    "list_boards",
    "load_board",
]

_HOMES = {
    "Board": "mcucompile.targets.boards",
    "Compiled": "mcucompile.driver",
    "UserError": "mcucompile.errors",
    "analyze_model": "mcucompile.driver",
    "compile_model": "mcucompile.driver",
    "list_boards": "mcucompile.targets.boards",
    "load_board": "mcucompile.targets.boards",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mcucompile' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
