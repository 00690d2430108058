"""MNIST as numpy arrays, from a keras-style mnist.npz or from the four IDX files as they are published."""

import gzip
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from mcucompile.errors import SamplesError

Bytes = npt.NDArray[np.uint8]

_IDX_FILES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
_IDX_UINT8 = 8


@dataclass(frozen=True, slots=True, eq=False)
class ImageSet:
    """Images of bytes (n, height, width), or (n, height, width, 3), and labels (n,), 0..9.

    MNIST is (n, 28, 28), 0 (paper) to 255 (ink).
    """

    train_images: Bytes
    train_labels: Bytes
    test_images: Bytes
    test_labels: Bytes


def read_idx(path: Path) -> Bytes:
    """Read an IDX file of bytes, gzip-compressed if its name ends in .gz.

    The header is two zero bytes, the type (8 for bytes), the number of dimensions, then each
    dimension as a big-endian 32-bit integer; the data follow.

    Raises:
        SamplesError: the file cannot be read, is not of this format, or is cut off.
    Source: LeCun, Cortes, Burges, "The MNIST database", section "File formats".
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise SamplesError(path, f"cannot be read: {error}", "download the file again") from error
    if len(data) < 4 or data[:3] != bytes([0, 0, _IDX_UINT8]):
        raise SamplesError(path, "is not an IDX file of bytes", "download the file again")
    header = 4 + 4 * data[3]
    shape = tuple(int.from_bytes(data[i : i + 4], "big") for i in range(4, header, 4))
    if len(data) != header + np.prod(shape, dtype=np.int64):
        raise SamplesError(path, f"holds {len(data)} bytes, not those of shape {shape}", "download the file again")
    return np.frombuffer(data, dtype=np.uint8, offset=header).reshape(shape)


def _read_npz(path: Path) -> dict[str, Bytes]:
    if not zipfile.is_zipfile(path):
        raise SamplesError(path, "is not an .npz archive", "use the mnist.npz that keras publishes")
    try:
        with np.load(path) as archive:
            missing = sorted(_IDX_FILES.keys() - set(archive.files))
            if missing:
                raise SamplesError(path, f"lacks {', '.join(missing)}", "use the mnist.npz that keras publishes")
            return {key: np.asarray(archive[key]) for key in _IDX_FILES}
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise SamplesError(path, f"cannot be read as .npz: {error}", "download the file again") from error


def _read_folder(folder: Path) -> dict[str, Bytes]:
    arrays = {}
    for key, name in _IDX_FILES.items():
        # torchvision keeps the files below MNIST/raw; both forms of each are accepted.
        places = [place / file for place in (folder, folder / "MNIST" / "raw") for file in (name, f"{name}.gz")]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            raise SamplesError(folder, f"holds no {name} or {name}.gz", "leave --data out to download MNIST")
        arrays[key] = read_idx(found)
    return arrays


def load_mnist(path: Path) -> ImageSet:
    """Read MNIST from an .npz file or a folder of IDX files.

    Raises:
        SamplesError: naming the file that is missing, unreadable or of another shape.
    """
    arrays = _read_folder(path) if path.is_dir() else _read_npz(path)
    for part in ("train", "test"):
        images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
            raise SamplesError(
                path,
                f"has {part} images of shape {images.shape} and labels of shape {labels.shape}",
                "give images (n, 28, 28) and labels (n,)",
            )
    return ImageSet(arrays["x_train"], arrays["y_train"], arrays["x_test"], arrays["y_test"])


def download_mnist(folder: Path) -> ImageSet:
    """Download MNIST through torchvision into its usual layout below a folder, once, and read it.

    Raises:
        SamplesError: torchvision is not installed, or the download fails.
    """
    try:
        from torchvision.datasets import MNIST  # noqa: PLC0415 - only a download needs it
    except ImportError as error:
        raise SamplesError(
            folder, "torchvision is not installed, so MNIST cannot be downloaded", "give --data or install torchvision"
        ) from error
    try:
        MNIST(root=str(folder), download=True)
    except (OSError, RuntimeError) as error:
        raise SamplesError(folder, f"MNIST cannot be downloaded: {error}", "give --data") from error
    return load_mnist(folder)
