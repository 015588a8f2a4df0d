"""Images -> pixels, by numpy and Pillow alone, as a model's own image processor makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sklopa._inputs.images import Picture

_LARGEST = 1 << 13  # pixels a side
_FILTERS = range(6)  # of Pillow


@dataclass(frozen=True)
class Preparation:
    """What is done to an image, in this order.

    Attributes
    ----------
    size : (height, width), or (length of the shorter side,), or None for no change
    resample : int, filter of Pillow
    crop : (height, width) of the middle that is kept, or None
    factor : float
    mean, std : three numbers each, one a channel
    """

    size: tuple[int, ...] | None
    resample: int
    crop: tuple[int, int] | None
    factor: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Preparation:
        """What the settings of an image processor tell.

        Raises
        ------
        KeyError, TypeError, ValueError
            If they are of another kind.
        """
        size = None
        if told.get("do_resize"):
            size = _sides(told["size"], (("height", "width"), ("shortest_edge",)))
        crop = None
        if told.get("do_center_crop"):
            crop = _sides(told["crop_size"], (("height", "width"),))
        factor = float(told["rescale_factor"]) if told.get("do_rescale") else 1.0
        mean, std = [0.0] * 3, [1.0] * 3
        if told.get("do_normalize"):
            mean, std = told["image_mean"], told["image_std"]
        return cls.from_dict(
            {"size": size, "resample": int(told.get("resample") or 0), "crop": crop,
             "factor": factor, "mean": [float(v) for v in mean], "std": [float(v) for v in std]}
        )  # fmt: skip

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preparation:
        """What `as_dict` gave, checked.

        Raises
        ------
        KeyError, TypeError, ValueError
            If a value is none that it may be.
        """
        size, crop = values["size"], values["crop"]
        if not (size is None or (len(size) in (1, 2) and all(map(_is_length, size)))):
            raise ValueError("size")
        if not (crop is None or (len(crop) == 2 and all(map(_is_length, crop)))):
            raise ValueError("crop")
        if type(values["resample"]) is not int or values["resample"] not in _FILTERS:
            raise ValueError("resample")
        numbers = [values["factor"], *values["mean"], *values["std"]]
        if not (all(type(v) is float for v in numbers) and np.isfinite(numbers).all()):
            raise ValueError("factor, mean or std")
        if len(values["mean"]) != 3 or len(values["std"]) != 3 or 0.0 in values["std"]:
            raise ValueError("mean or std")
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, (list, tuple)) else value
            for name, value in values.items()
        }
        return cls(**fields)

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, in plain values."""
        return asdict(self)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """(3, height, width) of all pixels that are made; None where they differ with the image."""
        last = self.crop or self.size
        return (3, *last) if last is not None and len(last) == 2 else None

    def __call__(self, picture: Picture) -> np.ndarray:
        """Pixels (3, height, width) of one image, float32."""
        image = picture.rgb()
        if self.size is not None:
            image = image.resize(self._width_and_height(*image.size), resample=self.resample)
        values = np.asarray(image)
        if self.crop is not None:
            values = _middle(values, *self.crop)
        values = (values.astype(np.float64) * self.factor).astype(np.float32)
        mean, std = np.array(self.mean, dtype=np.float32), np.array(self.std, dtype=np.float32)
        values = (values - mean) / std
        return np.ascontiguousarray(values.transpose(2, 0, 1))

    def _width_and_height(self, width: int, height: int) -> tuple[int, int]:
        """What an image of this width and height becomes."""
        assert self.size is not None
        if len(self.size) == 2:
            return self.size[1], self.size[0]
        short, (wanted,) = min(width, height), self.size
        long = int(wanted * max(width, height) / short)
        return (wanted, long) if width <= height else (long, wanted)


def _sides(told: Any, known: tuple[tuple[str, ...], ...]) -> tuple[int, ...]:
    """Lengths by name; the names must be one of those known."""
    given = {name: told[name] for name in dict(told) if told[name] is not None}
    names = next(names for names in (*known, ()) if given.keys() == {*names})
    return tuple(int(given[name]) for name in names)


def _is_length(value: Any) -> bool:
    return type(value) is int and 0 < value <= _LARGEST


def _middle(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """The middle (height, width, 3) of an image; where it is smaller, black is put around it."""
    out = np.zeros((height, width, values.shape[2]), dtype=values.dtype)
    there, here = zip(
        *(_overlap(n, wanted) for n, wanted in zip(values.shape, (height, width), strict=False)),
        strict=True,
    )
    out[here] = values[there]
    return out


def _overlap(n: int, wanted: int) -> tuple[slice, slice]:
    """Which of `n` lines go to which of the `wanted` lines in the middle."""
    if n >= wanted:
        start = (n - wanted) // 2
        return slice(start, start + wanted), slice(0, wanted)
    start = -(-(wanted - n) // 2)
    return slice(0, n), slice(start, start + n)
