"""Which rows run together: batches of similar length, so that little padding is computed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

# Rows are sorted by length within pools of this many batches: wide enough to leave almost no
# padding, narrow enough that batches of an epoch differ from those of the last one.
_POOL_BATCHES = 50


def training_batches(
    lengths: np.ndarray, batch_size: int, generator: torch.Generator
) -> list[np.ndarray]:
    """Index arrays that cover all rows once, each of similar lengths, in random order."""
    order = torch.randperm(len(lengths), generator=generator).numpy()
    pool = batch_size * _POOL_BATCHES
    batches = []
    for start in range(0, len(order), pool):
        members = order[start : start + pool]
        members = members[np.argsort(lengths[members], kind="stable")]
        batches += np.split(members, range(batch_size, len(members), batch_size))
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def inference_chunks(lengths: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Index arrays that cover all rows once, longest rows first.

    A memory shortage then shows in the first chunk and not in the last.
    """
    order = np.argsort(-lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
