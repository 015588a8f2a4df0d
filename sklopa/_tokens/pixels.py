"""Images -> pixels, by the model's own image processor, a batch at a time."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklopa._cache import process
from sklopa._inputs.images import Picture
from sklopa.errors import InvalidInput


@dataclass(frozen=True)
class Pixels:
    """One image that a reader will turn into numbers when its batch comes.

    All rows cost the same, so the length of each is one.
    """

    picture: Picture
    reader: PixelReader
    states: Tensor | None = None  # (T, D), what the layer of the prompt reads, where it is known

    def __len__(self) -> int:
        return 1

    @staticmethod
    def collate(rows: Sequence[Pixels]) -> PixelBatch:
        """Rows as one batch."""
        values = rows[0].reader.values([row.picture for row in rows])
        known = [row.states for row in rows if row.states is not None]
        states = torch.stack(known) if len(known) == len(rows) else None
        return PixelBatch(torch.from_numpy(values), states)


@dataclass(frozen=True)
class PixelBatch:
    """Pixels of B images, (B, channels, height, width), float32; perhaps states (B, T, D)."""

    values: Tensor
    states: Tensor | None = None

    def __len__(self) -> int:
        return len(self.values)

    def to(self, device: torch.device) -> PixelBatch:
        """The same batch on `device`."""
        states = None if self.states is None else self.states.to(device)
        return replace(self, values=self.values.to(device), states=states)


class PixelReader:
    """Reads images with a model's image processor; recent ones are kept.

    Parameters
    ----------
    processor : transformers image processor
    name : hashable
        Stands for the processor in the cache.
    """

    def __init__(self, processor: Any, name: Hashable) -> None:
        self.processor, self.namespace = processor, ("pixels", name)

    def read(self, rows: Sequence[Picture]) -> tuple[list[Pixels], int]:
        """Rows that can be cut into batches, and how many were truncated: none ever is."""
        return [Pixels(picture, self) for picture in rows], 0

    def values(self, pictures: list[Picture]) -> np.ndarray:
        """Pixels (B, channels, height, width) of images.

        Raises
        ------
        InvalidInput
            If a file cannot be read, or the processor leaves images with different sizes.
        """
        found = process.PIXELS.compute(self.namespace, pictures, self._process, process.array_bytes)
        if len({image.shape for image in found}) > 1:
            sizes = sorted({image.shape[1:] for image in found})
            raise InvalidInput(
                f"The model's image processor leaves images with different sizes, such as "
                f"{sizes[0]} and {sizes[1]}. Give images of one size, or a processor that resizes."
            )
        return np.stack(found)

    def _process(self, pictures: list[Picture]) -> Iterator[tuple[int, np.ndarray]]:
        for i, picture in enumerate(pictures):
            pixels = self.processor(images=picture.rgb(), return_tensors="np")["pixel_values"]
            yield i, np.asarray(pixels[0], dtype=np.float32)
