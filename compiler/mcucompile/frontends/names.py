"""Names from a user's model, made fit to print and to compile."""

import re

_MAX_LENGTH = 60
_MAX_SENTENCE = 200
_MAX_LAYER = 32
# ISO/IEC 9899:1999, 6.4.1.
_C_KEYWORDS = {
    "auto", "break", "case", "char", "const", "continue", "default", "do", "double", "else", "enum", "extern",
    "float", "for", "goto", "if", "inline", "int", "long", "register", "restrict", "return", "short", "signed",
    "sizeof", "static", "struct", "switch", "typedef", "union", "unsigned", "void", "volatile", "while",
}  # fmt: skip


def label(text: str) -> str:
    """Return a name as it may be printed: one line, no control characters; of a long one its end, which tells apart."""
    printable = "".join(c if c.isprintable() else "?" for c in text[-10 * _MAX_LENGTH :])
    return printable if len(printable) <= _MAX_LENGTH else f"...{printable[3 - _MAX_LENGTH :]}"


def short_name(node: str) -> str:
    """Return what a layer is called after its node: converters make names of whole paths, joined where they fuse.

    Example:
        >>> short_name("model/activation_1/Relu;model/batch_normalization_1/FusedBatchNormV3;model/conv2d_1/Conv2D")
        'conv2d_1/Conv2D'
    """
    if len(node) <= _MAX_LAYER:
        return node
    parts = [part for part in node.rpartition(";")[2].split("/") if part]
    return "/".join(parts[-2:])[-_MAX_LAYER:] or node[:_MAX_LAYER]


def first_line(error: Exception) -> str:
    """Return what another library's exception says as it may be printed: its first line, not too long."""
    line = (str(error).strip() or "no reason given").splitlines()[0]
    return "".join(c if c.isprintable() else "?" for c in line)[:_MAX_SENTENCE]


def c_name(stem: str) -> str:
    """Return the C identifier for a file's stem: lower case, [a-z0-9_], no leading digit, no keyword.

    Example:
        >>> c_name("784-16-10"), c_name("int"), c_name("Digits v2")
        ('model_784_16_10', 'model_int', 'digits_v2')
    """
    name = re.sub(r"[^a-z0-9]+", "_", stem.lower()).strip("_")[:_MAX_LENGTH]
    return f"model_{name}".rstrip("_") if not name or name[0].isdigit() or name in _C_KEYWORDS else name


class UniqueNames:
    """Hands out names that were not handed out before: a second 'fc' becomes 'fc_2'."""

    def __init__(self) -> None:
        self._used: set[str] = set()
        self._counts: dict[str, int] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._used

    def take(self, wanted: str) -> str:
        """Return the wanted name, with a number if it is taken."""
        name = wanted
        while name in self._used:
            self._counts[wanted] = self._counts.get(wanted, 1) + 1
            name = f"{wanted}_{self._counts[wanted]}"
        self._used.add(name)
        return name
