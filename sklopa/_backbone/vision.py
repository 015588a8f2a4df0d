"""The frozen vision tower: pixels and soft prompt -> states (B, T, D)."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sklopa._backbone.frozen import Frozen, Unprompted
from sklopa._backbone.layer_rows import prompt_rows, states_at, states_entering
from sklopa._backbone.vision_families import VisionFamily
from sklopa._cache.content import digest_of_config
from sklopa._tokens.pixels import PixelBatch, PixelReader
from sklopa._tokens.template import Template
from sklopa.errors import InvalidParameter, UnsupportedBackbone


class FrozenVisionTower(Frozen[PixelBatch]):
    """A pretrained vision tower and its image processor, shared and never changed.

    Parameters
    ----------
    model : transformers PreTrainedModel, with a vision tower or one itself
    processor : transformers image processor
    family : VisionFamily
    key, files, step_dtype
        As in `Frozen`.
    """

    reads = "images"
    family: VisionFamily

    def __init__(
        self,
        model: Any,
        processor: Any,
        family: VisionFamily,
        *,
        key: Hashable,
        files: Hashable = None,
        step_dtype: torch.dtype | None = None,
    ) -> None:
        self.processor = processor
        super().__init__(model, family, key=key, files=files, step_dtype=step_dtype)
        self.tower_config = getattr(model.config, "vision_config", model.config)
        self.n_prefix = family.n_prefix(self.tower_config)
        self._check()

    def _hold(self, model: Any) -> None:
        super()._hold(model)
        self.base = self.family.tower(model)

    def _check(self) -> None:
        for name, value in self.family.settings.items():
            if getattr(self.tower_config, name) != value:
                raise UnsupportedBackbone(
                    f"{self.name!r} has {name}={getattr(self.tower_config, name)}, with which it "
                    f"does not see whole images. Set model.config.{name} = {value}."
                )
        if self.tower_config.num_channels != 3:
            raise UnsupportedBackbone(
                f"{self.name!r} reads images of {self.tower_config.num_channels} channels; only "
                "models of 3 channels can be used, and grey images are read by these as well."
            )

    @property
    def room(self) -> None:
        """None: a prompt of rows without positions is not bounded."""
        return None

    @property
    def n_layers(self) -> int:
        """L, the layers that are run one after the other."""
        return self.tower_config.num_hidden_layers

    @property
    def width(self) -> int:
        """D of the states that the tower returns."""
        return self.tower_config.hidden_size

    @property
    def second_width(self) -> int:
        """F of the second view of an image: four quarters, each of D values."""
        return 4 * self.width

    @property
    def prompt_width(self) -> int:
        """D of the rows that enter the first layer."""
        return self.tower_config.hidden_size

    @property
    def reads_with(self) -> Any:
        """The image processor."""
        return self.processor

    def reader(
        self,
        max_tokens: int | None = None,
        template: Template | None = None,
        special_tokens: bool = False,
    ) -> PixelReader:
        """A reader of images for this model."""
        return PixelReader(self.processor, self.identity)

    def prompt_start(self, n: int, generator: torch.Generator, *, deep: bool = False) -> Tensor:
        """Where prompts start: (P, D), or (L, P, D) for all layers.

        Uniform, with the bound of a Glorot start for a layer from one patch to D values: the
        start of Visual Prompt Tuning (Jia et al., 2022, its published code). There is no
        vocabulary of patches to draw from, as there is for texts.
        """
        n_pixels = 3 * _area(self.tower_config.patch_size)
        bound = (6 / (n_pixels + self.prompt_width)) ** 0.5
        shape = (self.n_layers - self.prompt_layer,) * deep + (n, self.prompt_width)
        return (2 * torch.rand(shape, generator=generator, dtype=torch.float32) - 1) * bound

    def states_behind(self, prompt: Tensor | None, pixels: PixelBatch) -> Tensor:
        """Last states (B, T, D) of class token and patches, in float32.

        Parameters
        ----------
        prompt : Tensor of shape (B, P, D), or (B, L, P, D) for all layers, or None
        pixels : PixelBatch
        """
        values, start = pixels.values.to(self.dtype), self.n_prefix
        self._check_size(values.shape[2], values.shape[3])
        if prompt is not None and self.prompt_layer > 0:
            return self._states_above(prompt, pixels)
        arguments = self.family.arguments(self.base, values)
        layers = () if prompt is None else self.layers
        biases = () if prompt is None else self.family.biases(self.base)
        with prompt_rows(layers, prompt, start, biases):
            states = self.base(values, **arguments)[0].float()
        if prompt is None:
            return states
        return torch.cat([states[:, :start], states[:, start + prompt.shape[-2] :]], dim=1)

    def _states_above(self, prompt: Tensor, pixels: PixelBatch) -> Tensor:
        """The same behind prompts that join the states of the images at a layer."""
        states = self.lower_states(pixels) if pixels.states is None else pixels.states
        first, later = (prompt, None) if prompt.ndim == 3 else (prompt[:, 0], prompt[:, 1:])
        states, n, n_rows = states.to(self.dtype), self.n_prefix, first.shape[1]
        whole = torch.cat([states[:, :n], first.to(self.dtype), states[:, n:]], dim=1)
        start = torch.full((whole.shape[0],), n, dtype=torch.int64, device=whole.device)
        biases, values = self.family.biases(self.base), pixels.values.to(self.dtype)
        arguments = self.family.arguments(self.base, values)
        above = self._above
        with states_at(self.layers, self.prompt_layer, whole, later, start, biases, n_rows):
            out = above(values, **arguments)[0].float()
        return torch.cat([out[:, :n], out[:, n + n_rows :]], dim=1)

    def _check_size(self, *size: int) -> None:
        expected = _pair(self.tower_config.image_size)
        if not self.family.any_size and size != expected:
            raise InvalidParameter(
                f"the image processor of {self.name!r} makes images of {size[0]} x {size[1]}, and "
                f"the model reads {expected[0]} x {expected[1]}. Set the processor's size."
            )

    def n_states(self, item: Any) -> int:
        """T, states of one image: those in front of the patches, and one a patch."""
        n_down, n_across = self._grid(item.reader.values([item.picture]))
        return self.n_prefix + n_down * n_across

    def _grid(self, values: Any) -> tuple[int, int]:
        """Patches from top to bottom, and from left to right, of pixels (B, 3, height, width)."""
        down, across = _pair(self.tower_config.patch_size)
        return values.shape[2] // down, values.shape[3] // across

    def _quarters(self, states: Tensor, values: Tensor) -> Tensor:
        """Mean states (B, 4 D) of the patches in each quarter of images, row by row."""
        n_down, n_across = self._grid(values)
        patches = states[:, self.n_prefix :].unflatten(1, (n_down, n_across))
        means = [
            patches[:, rows, columns].mean(dim=(1, 2))
            for rows in _halves(n_down)
            for columns in _halves(n_across)
        ]
        return torch.cat(means, dim=1)

    def pool(self, states: Tensor, pixels: PixelBatch) -> Tensor:
        """One vector (B, D) for each image, read as the model was trained to be read."""
        return self.family.pool(self.base, states.to(self.dtype)).float()

    def unprompted(self, pixels: PixelBatch) -> Unprompted:
        """All that is read of images without a prompt, in one pass.

        The second view tells where things are, which a class token forgets.
        """
        values = pixels.values.to(self.dtype)
        self._check_size(values.shape[2], values.shape[3])
        arguments = self.family.arguments(self.base, values)

        layer, lower = self.prompt_layer, None

        def run() -> Any:
            return self.base(values, output_hidden_states=layer > 0, **arguments)

        out = run()
        if layer > 0 and out.hidden_states is not None:
            lower = out.hidden_states[layer]
        elif layer > 0:  # SigLIP of transformers 4 returns none
            lower = states_entering(self.layers[layer], run)
        last = out[0].float()
        return Unprompted(last, self._quarters(last, values), lower)

    def _run_one(self) -> None:
        """Run the base model on one blank image."""
        height, width = _pair(self.tower_config.image_size)
        blank = torch.zeros(1, 3, height, width, dtype=self.dtype, device=self.device)
        self.base(blank, **self.family.arguments(self.base, blank))

    def _reader_digest(self) -> str:
        return digest_of_config(self.processor.to_dict())

    def write(self, folder: Path) -> None:
        """Put model and image processor into a folder that they load from."""
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)


def _halves(n: int) -> tuple[slice, slice]:
    """Both halves of `n` places, which share the one in the middle where there is one."""
    return slice(0, (n + 1) // 2), slice(n // 2, n)


def _area(size: Any) -> int:
    height, width = _pair(size)
    return height * width
