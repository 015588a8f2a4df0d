"""Tokens -> states at the layer of a prompt, which do not depend on the prompt."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklopa._backbone.frozen import Frozen
from sklopa._batches.run import run_in_batches
from sklopa._cache import process
from sklopa._tokens.batch import collate

_CHUNK_ROWS = 32


class LowerStates:
    """States that are computed once for a row, and kept in a bounded cache of the process.

    Parameters
    ----------
    frozen : Frozen, with the layer at which prompts enter
    dtype : torch.dtype
        Precision in which they are kept: that of training steps, or of predictions.
    read_as : hashable
        How rows are turned into tokens.
    """

    def __init__(self, frozen: Frozen[Any], dtype: torch.dtype, read_as: Hashable) -> None:
        self.frozen, self.dtype = frozen, dtype
        self.namespace = ("states", frozen.identity, frozen.prompt_layer, dtype, read_as)

    def keep(self, row: Any, tokens: Any, states: Tensor) -> None:
        """Keep states (T or more, D) that were met on the way to an instance embedding."""
        value = self._kept(tokens, states)
        process.STATES.put(self.namespace, row, value, _bytes(value))

    def attach(self, rows: Sequence[Any], tokens: Sequence[Any]) -> list[Any]:
        """The tokens with their states, as far as the bound of the cache goes.

        Those beyond it are computed again whenever they are read.
        """
        width = self.frozen.prompt_width * self.dtype.itemsize
        sizes = np.cumsum([self.frozen.n_states(item) * width for item in tokens])
        n = int(np.searchsorted(sizes, process.STATES.max_bytes, side="right"))
        known = process.STATES.compute(
            self.namespace, rows[:n], lambda missing: self._compute(missing, rows, tokens), _bytes
        )
        attached = [replace(item, states=s) for item, s in zip(tokens, known, strict=False)]
        return [*attached, *tokens[n:]]

    def _compute(
        self, missing: list[Any], rows: Sequence[Any], tokens: Sequence[Any]
    ) -> Iterator[tuple[int, Tensor]]:
        places = {row: i for i, row in enumerate(rows)}
        items = [tokens[places[row]] for row in missing]

        def run(indices: np.ndarray) -> list[Tensor]:
            batch = collate([items[i] for i in indices]).to(self.frozen.device)
            states = self.frozen.lower_states(batch)
            return [self._kept(items[i], s) for i, s in zip(indices, states, strict=True)]

        lengths = np.array([len(item) for item in items])
        for indices, values in run_in_batches(lengths, _CHUNK_ROWS, run):
            yield from zip(indices.tolist(), values, strict=True)

    def _kept(self, tokens: Any, states: Tensor) -> Tensor:
        n = self.frozen.n_states(tokens)
        return states[:n].to(self.dtype).cpu().clone()


def _bytes(value: Tensor) -> int:
    return value.nbytes + 200
