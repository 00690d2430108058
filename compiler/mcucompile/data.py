"""Reads the user's arrays: samples and labels in .npy and .npz files. Such files are hostile input."""

from pathlib import Path

import numpy as np

from mcucompile.errors import SamplesError
from mcucompile.ir import Array


def load_array(path: Path | str, key: str | None = None) -> Array:
    """Read one array.

    Args:
        path: an .npy file, or an .npz file with one array (or several, one of them called `key`);
            "file.npz:name" names one of several.
        key: the array to take of several if the path names none.

    Raises:
        SamplesError: no such file, not an array, pickled objects, several arrays and none named.
    """
    text, _, named = str(path).rpartition(":") if ".npz:" in str(path) else (str(path), "", "")
    file = Path(text)
    try:
        # An open file, since numpy leaves one of its own open when it finds a damaged .npz file.
        with file.open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            with loaded:
                names = loaded.files
                wanted = named or (names[0] if len(names) == 1 else key)
                if wanted in names:
                    return np.asarray(loaded[wanted])
                if not names:
                    raise SamplesError(file, "holds no array", "save one with numpy.savez")
                raise SamplesError(file, f"holds the arrays {', '.join(names)}", f"name one, e.g. {file}:{names[0]}")
    except FileNotFoundError as error:
        raise SamplesError(file, "does not exist", "give the path of an .npy or .npz file") from error
    except OSError as error:
        raise SamplesError(file, f"cannot be read ({error.strerror or error})", "check the file") from error
    except SamplesError:
        raise
    except Exception as error:
        # numpy reads damage with zipfile, zlib and Python's own tokenizer, and lets through whatever they raise;
        # of text files and of Python objects it says that it would unpickle them.
        raise SamplesError(
            file, "is no array of numbers in numpy's format, or is damaged", "save it with numpy.save or numpy.savez"
        ) from error


def load_labels(path: Path | str, count: int) -> Array:
    """Read the classes of `count` inputs, (count,).

    Raises:
        SamplesError: as `load_array`; not whole numbers, or not one for each input.
    """
    labels = load_array(path, "labels")
    is_whole = labels.dtype.kind in "iu" or (labels.dtype.kind == "f" and bool(np.all(labels == np.floor(labels))))
    if not is_whole:
        raise SamplesError(path, f"holds {labels.dtype} values that are not classes", "save whole numbers: 0, 1, 2 ...")
    if labels.size != count:
        raise SamplesError(path, f"has {labels.size:,} labels for {count:,} inputs", "save one class per input")
    return labels.ravel()
