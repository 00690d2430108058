"""Errors a user can cause: each says where, what is wrong, and what to do about it.

Anything else that escapes is an internal fault; the command line says so and asks for a report.
"""


class UserError(Exception):
    """A mistake in what the user gave: exit code 2, three lines, no traceback.

    Args:
        where: the place: file, node, tensor, option or board.
        problem: the value found and the limit it breaks.
        fix: one thing to do.
    """

    exit_code = 2

    def __init__(self, where: object, problem: str, fix: str) -> None:
        self.where = str(where)
        self.problem = problem
        self.fix = fix
        super().__init__(f"{self.where}: {problem}; {fix}")


class ModelError(UserError):
    """The model file cannot be read or is not a valid model."""


class UnsupportedError(UserError):
    """The model holds nodes that cannot be compiled; `problem` lists all of them."""


class SamplesError(UserError):
    """Samples or labels do not belong to the model."""


class QuantizationError(UserError):
    """A layer cannot be expressed in the chosen integers."""


class BoardError(UserError):
    """An unknown board, or a board file with a mistake."""


class ToolError(UserError):
    """A compiler, emulator or flash program is missing or failed."""


class ProjectError(UserError):
    """A directory is not a compiled project, or cannot be written."""


class LinkError(UserError):
    """The board does not answer, or not as this project's firmware answers."""


class ProofError(UserError):
    """The built firmware holds what it was promised not to hold."""

    exit_code = 1
