"""CIFAR-10 as numpy arrays, from its binary files, from an .npz archive, or through torchvision."""

import io
import itertools
import zipfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
from mcucompile.errors import SamplesError
from mnist import Bytes, ImageSet

_SHAPE = (32, 32, 3)
_RECORD = 1 + 3 * 32 * 32
_FILES = {"train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test": ("test_batch.bin",)}
_FIX = "give the folder of the binary version, or leave --data out to download CIFAR-10"


def load_cifar10(path: Path) -> ImageSet:
    """Read CIFAR-10: images (n, 32, 32, 3), red, green, blue, and labels (n,), 0..9.

    Args:
        path: a folder of the published binary version, or one that torchvision downloaded to; or an .npz archive with
            x_train, y_train, x_test and y_test, or with the images as JPEG files one after the other in jpeg_train
            and jpeg_test, their places in off_train and off_test (n + 1,).
    Raises:
        SamplesError: naming the file that is missing, unreadable or of another shape.
    """
    if (path / "cifar-10-batches-py").is_dir():
        return download_cifar10(path)
    parts = {part: _read_binary(path, part) if path.is_dir() else _read_npz(path, part) for part in ("train", "test")}
    for part, (images, labels) in parts.items():
        if images.shape[1:] != _SHAPE or labels.shape != images.shape[:1]:
            raise SamplesError(
                path,
                f"has {part} images of shape {images.shape} and labels of shape {labels.shape}",
                "give images (n, 32, 32, 3) and labels (n,)",
            )
    return ImageSet(*parts["train"], *parts["test"])


def download_cifar10(folder: Path) -> ImageSet:
    """Download CIFAR-10 through torchvision into its usual layout below a folder, once, and read it.

    Raises:
        SamplesError: torchvision is not installed, or the download fails.
    """
    try:
        from torchvision.datasets import CIFAR10  # noqa: PLC0415 - only a download needs it
    except ImportError as error:
        raise SamplesError(
            folder,
            "torchvision is not installed, so CIFAR-10 cannot be downloaded",
            "give --data or install torchvision",
        ) from error
    try:
        train, test = (CIFAR10(root=str(folder), train=train, download=True) for train in (True, False))
    except (OSError, RuntimeError) as error:
        raise SamplesError(folder, f"CIFAR-10 cannot be downloaded: {error}", "give --data") from error
    return ImageSet(train.data, np.uint8(train.targets), test.data, np.uint8(test.targets))


def _read_binary(folder: Path, part: str) -> tuple[Bytes, Bytes]:
    """Read records of a label byte and three planes of 32x32 bytes.

    Source: Krizhevsky, "The CIFAR-10 dataset", section "Binary version".
    """
    records = []
    for name in _FILES[part]:
        places = [place / name for place in (folder, folder / "cifar-10-batches-bin")]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            raise SamplesError(folder, f"holds no {name}", _FIX)
        try:
            data = np.fromfile(found, dtype=np.uint8)
        except OSError as error:
            raise SamplesError(found, f"cannot be read: {error}", "download the file again") from error
        if len(data) % _RECORD:
            raise SamplesError(found, f"holds {len(data)} bytes, not records of {_RECORD}", "download the file again")
        records.append(data.reshape(-1, _RECORD))
    data = np.concatenate(records)
    return data[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), data[:, 0]


def _read_npz(path: Path, part: str) -> tuple[Bytes, Bytes]:
    if not zipfile.is_zipfile(path):
        raise SamplesError(path, "is not an .npz archive", _FIX)
    try:
        with np.load(path) as archive:
            if f"jpeg_{part}" in archive.files:
                return _decoded(archive[f"jpeg_{part}"], archive[f"off_{part}"]), archive[f"y_{part}"]
            return archive[f"x_{part}"], archive[f"y_{part}"]
    except KeyError as error:
        raise SamplesError(path, f"lacks an array: {error.args[0]}", _FIX) from error
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise SamplesError(path, f"cannot be read as .npz: {error}", "download the file again") from error


def _decoded(files: Bytes, offsets: npt.NDArray[np.int64]) -> Bytes:
    from PIL import Image  # noqa: PLC0415 - only archives of JPEG files need it

    opened = (Image.open(io.BytesIO(files[start:end].tobytes())) for start, end in itertools.pairwise(offsets))
    return np.stack([np.asarray(image.convert("RGB")) for image in opened])
