"""Whatever users hold images in -> rows of images. Every message about image X is here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sklopa.errors import InvalidInput, InvalidType, MissingDependency

_HOW = (
    "X must be a list of images (PIL images, arrays, Paths), or an array (n, height, width) or "
    "(n, height, width, 3)"
)
# Modes that Pillow turns into RGB by cutting values off at 255.
_DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")


@dataclass(frozen=True, eq=False)
class Picture:
    """One image, read when its pixels are needed.

    Attributes
    ----------
    source : PIL image, Path, or ndarray (h, w), (h, w, 1) or (h, w, 3) of uint8 or floats in [0, 1]
    """

    source: Any

    @cached_property
    def digest(self) -> bytes:
        """Stands for the content in caches."""
        digest = hashlib.blake2b(digest_size=16)
        if isinstance(self.source, Path):
            with _named(f"The image {self.source}"):
                digest.update(b"file" + self.source.read_bytes())
        elif isinstance(self.source, np.ndarray):
            digest.update(repr((self.source.shape, self.source.dtype.str)).encode())
            digest.update(np.ascontiguousarray(self.source).data)
        else:
            image = self.source if self.source.mode != "P" else self.rgb()
            digest.update(repr((image.mode, image.size)).encode() + image.tobytes())
        return digest.digest()

    def rgb(self) -> Any:
        """The image as a PIL image of mode RGB: 8 bits a channel, as image processors expect.

        Raises
        ------
        InvalidInput
            If a file is damaged.
        """
        from PIL import Image, ImageOps

        if isinstance(self.source, Path):
            with _named(f"The image {self.source}"), Image.open(self.source) as image:
                return ImageOps.exif_transpose(image).convert("RGB")
        if not isinstance(self.source, np.ndarray):
            return self.source.convert("RGB")
        values = self.source
        if values.dtype.kind == "f":
            values = np.rint(255 * values.astype(np.float64)).astype(np.uint8)
        values = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
        return Image.fromarray(np.ascontiguousarray(values)).convert("RGB")


@dataclass(frozen=True)
class Images:
    """n inputs as pictures; what `Texts` is for texts."""

    rows: list[Picture]
    n_columns: int = 1
    names: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rows)


def check_images(X: Any) -> Images:
    """Rows of images from a list, tuple, Series or array.

    Files are opened once to see that they are images, and read when their pixels are needed.

    Raises
    ------
    InvalidType
        If X is a single image, a table, or has rows that are no images; names the first bad row.
    InvalidInput
        If X is empty, an array has a shape or values that images do not have, or a file cannot
        be read; names the first bad row.
    MissingDependency
        If Pillow is not installed.
    """
    _require_pillow()
    rows = [Picture(_as_image(value, i)) for i, value in enumerate(_sequence(X))]
    if not rows:
        raise InvalidInput(
            "Found array with 0 sample(s): X is empty; at least one image is needed."
        )
    return Images(rows)


def _require_pillow() -> None:
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise MissingDependency(
            "Reading images needs Pillow. Install it with: pip install pillow"
        ) from error


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Whatever Pillow and the disk raise, as one error that says which image it was."""
    try:
        yield
    except Exception as error:  # decoders raise what they like: struct.error, AssertionError, ...
        reason = str(error) or type(error).__name__
        raise InvalidInput(f"{what} cannot be read: {reason}") from error


def _sequence(X: Any) -> Sequence:
    """X as something with one image a row."""
    single = isinstance(X, (str, bytes, Mapping, Set, Path)) or _is_pil(X)
    if single or not hasattr(X, "__len__"):
        raise InvalidType(f"{_HOW}; got one {type(X).__name__}. Pass [image] for one row.")
    if hasattr(X, "columns"):
        raise InvalidType(f"{_HOW}; got a {type(X).__name__}. Pass the column that holds them.")
    if not hasattr(X, "__array__"):
        return X
    try:
        values = np.asanyarray(X)  # masked arrays as such
    except Exception as error:  # of any library: a tensor elsewhere or with a gradient
        raise InvalidType(f"{_HOW}; this {type(X).__name__} is none: {error}") from error
    if values.dtype == object and values.ndim == 1:
        return values
    if values.ndim < 3:
        raise InvalidType(
            f"{_HOW}; got an array of {values.dtype} with shape {values.shape}. Give flattened "
            "images their height and width back with X.reshape(-1, height, width)."
        )
    if values.ndim == 3 and values.shape[2] == 3:
        raise InvalidInput(
            f"{_HOW}; an array of shape {values.shape} looks like one colour image. Pass X[None]."
        )
    return values


def _is_pil(value: Any) -> bool:
    from PIL import Image

    return isinstance(value, Image.Image)


def _as_image(value: Any, i: int) -> Any:
    if isinstance(value, np.ndarray):
        return _check_array(value, i)
    if isinstance(value, Path):
        return _check_file(value, i)
    if _is_pil(value):
        return _check_pil(value, i)
    hint = ""
    if isinstance(value, str):
        hint = f" For a file give Path({value[:60]!r})."
    raise InvalidType(f"{_HOW}; row {i} is of type {type(value).__name__}.{hint}")


def _check_pil(image: Any, i: int) -> Any:
    if image.mode in _DEEP_MODES:
        raise InvalidInput(
            f"X row {i} is a PIL image of mode {image.mode!r}, whose range is not known. Give an "
            "array of floats between 0 and 1."
        )
    if not all(image.size):
        raise InvalidInput(f"X row {i} is a PIL image of size {image.size}, without a pixel.")
    with _named(f"X row {i}: the image"):  # closed, cut off, or of a mode that has no colours
        image.crop((0, 0, 1, 1)).convert("RGB")
    return image


def _check_array(values: np.ndarray, i: int) -> np.ndarray:
    if np.ma.is_masked(values):
        raise InvalidInput(f"X row {i} has masked pixels. Give them a value with image.filled(0).")
    values = np.asarray(values)
    grey = values.ndim == 2 or (values.ndim == 3 and values.shape[2] == 1)
    if not (grey or (values.ndim == 3 and values.shape[2] == 3)) or not values.size:
        first = values.ndim == 3 and values.shape[0] == 3
        hint = " Move the channels to the end with image.transpose(1, 2, 0)." if first else ""
        raise InvalidInput(
            f"X row {i} has shape {values.shape}; an image has (height, width) or "
            f"(height, width, 3).{hint}"
        )
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind != "f":
        raise InvalidType(
            f"X row {i} has values of {values.dtype}; images are uint8 from 0 to 255, or floats "
            "from 0 to 1."
        )
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):  # so that NaN is refused as well
        raise InvalidInput(
            f"X row {i} has values from {low:g} to {high:g}; images of floats go from 0 to 1. "
            "Divide by the largest value that a pixel can have."
        )
    return values


def _check_file(path: Path, i: int) -> Path:
    from PIL import Image

    if path.exists() and not path.is_file():  # opening a pipe would wait for ever
        raise InvalidInput(f"X row {i}: {path} is no file that could hold an image.")
    with _named(f"X row {i}: the image {path}"), Image.open(path):
        return path
