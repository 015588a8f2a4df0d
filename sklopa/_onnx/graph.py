"""The pipe from tokens, or pixels, to what a task decides on, as one module of tensors alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sklopa._backbone.language import as_language_model
from sklopa._batches.rows import Batch, Views
from sklopa._embedding.instance import as_views, compared, read_instances
from sklopa._network.fitted import FittedNetwork
from sklopa._tokens.batch import AnyBatch, TokenBatch
from sklopa._tokens.pixels import PixelBatch

# The texts that a graph reads, each as ids, mask and perhaps types: what stands behind the prompt,
# and the texts by themselves, which instance embeddings are made of.
ROW, TEXT, PAIR = "row", "text", "pair"
PIXELS = "row_pixels"


class OnnxGraph(nn.Module, ABC):
    """Everything between tokens, or pixels, and outputs, with the frozen model in it.

    Parameters
    ----------
    fitted : FittedNetwork
    finish : callable
        Makes of outputs (B, C) what the graph returns.
    """

    def __init__(self, fitted: FittedNetwork, finish: Any) -> None:
        super().__init__()
        self.design, self.finish = fitted.design, finish
        self.task = fitted.live().eval()
        self.frozen = self.task.frozen
        # Held as modules, so that their weights are initializers of the graph and no constants.
        self.base = self.frozen.base
        self.above = self.frozen._above if self.design.prompt_layer else None

    @property
    @abstractmethod
    def inputs(self) -> list[str]:
        """Names of the tensors that `forward` takes, in their order."""

    @property
    @abstractmethod
    def axes(self) -> dict[str, dict[int, str]]:
        """Names of the axes of the inputs that have any length."""

    @abstractmethod
    def example(self) -> tuple[Tensor, ...]:
        """Tensors that the graph can be traced with."""

    def _views_of(self, tokens: AnyBatch) -> Views:
        plain = self.frozen.plain
        if self.design.n_views == 1:
            return Views(read_instances(plain, tokens))
        return as_views(plain, plain.unprompted(tokens), tokens)


class TextGraph(OnnxGraph):
    """From token ids on."""

    def __init__(self, fitted: FittedNetwork, finish: Any) -> None:
        super().__init__(fitted, finish)
        frozen = as_language_model(self.frozen)
        self.whole = None if self.design.word_ids is None else frozen.model
        self.with_types = frozen.reader(None).with_types

    @property
    def texts(self) -> list[str]:
        """Which texts are read."""
        views = [TEXT, PAIR] if self.design.pairs else [TEXT]
        if self.design.is_probe:
            return views
        return [ROW, *views] if self.design.reads_instances else [ROW]

    @property
    def inputs(self) -> list[str]:
        parts = ["ids", "mask", "types"] if self.with_types else ["ids", "mask"]
        return [f"{text}_{part}" for text in self.texts for part in parts]

    @property
    def axes(self) -> dict[str, dict[int, str]]:
        return {name: {0: "rows", 1: name.rpartition("_")[0]} for name in self.inputs}

    def forward(self, *tensors: Tensor) -> Tensor:
        """What the task decides on, (B, C); tensors (B, T), int64, as `inputs` names them."""
        found = dict(self._batches(tensors))
        row = found.pop(ROW, None)
        views = self._views(list(found.values())) if found else Views(tensors[0][:, :0].float())
        return self.finish(self.task(Batch(tokens=row, views=views)))

    def _batches(self, tensors: tuple[Tensor, ...]) -> Iterator[tuple[str, TokenBatch]]:
        n = 3 if self.with_types else 2
        for i, text in enumerate(self.texts):
            ids, mask, *types = tensors[i * n : (i + 1) * n]
            slot = mask.sum(dim=1) - 1
            template = self.design.template
            if text == ROW and template is not None and template.mask_id is not None:
                slot = (ids == template.mask_id).to(torch.int64).argmax(dim=1)
            yield text, TokenBatch(ids, mask, types[0] if types else None, slot, ids[:, 0] * 0)

    def _views(self, batches: list[TokenBatch]) -> Views:
        each = [self._views_of(batch) for batch in batches]
        if len(each) == 1:
            return each[0]
        first, second = each
        last = compared(first.last, second.last)
        if first.second is None or second.second is None:
            return Views(last)
        return Views(last, compared(first.second, second.second))

    def example(self, n_rows: int = 3, n_tokens: int = 7) -> tuple[Tensor, ...]:
        ids = torch.arange(n_rows * n_tokens).reshape(n_rows, n_tokens) % 7 + 1
        template = self.design.template
        if template is not None and template.mask_id is not None:
            ids[:, 2] = template.mask_id
        mask = torch.from_numpy(np.tri(n_rows, n_tokens, n_tokens - n_rows, dtype=np.int64))
        parts = {"ids": ids, "mask": mask, "types": torch.zeros_like(ids)}
        return tuple(parts[name.rpartition("_")[2]].clone() for name in self.inputs)


class ImageGraph(OnnxGraph):
    """From pixels on, all images of one shape.

    Parameters
    ----------
    shape : (3, height, width)
    """

    inputs = [PIXELS]
    axes = {PIXELS: {0: "rows"}}

    def __init__(self, fitted: FittedNetwork, finish: Any, shape: tuple[int, ...]) -> None:
        super().__init__(fitted, finish)
        self.shape = shape

    def forward(self, pixels: Tensor) -> Tensor:
        """What the task decides on, (B, C); pixels (B, 3, height, width)."""
        batch, views = PixelBatch(pixels), Views(pixels[:, 0, 0, :0])
        if self.design.is_probe or self.design.reads_instances:
            views = self._views_of(batch)
        tokens = None if self.design.is_probe else batch
        return self.finish(self.task(Batch(tokens=tokens, views=views)))

    def example(self) -> tuple[Tensor, ...]:
        return (torch.linspace(-1, 1, 3).reshape(3, 1, 1, 1).expand(3, *self.shape).clone(),)
