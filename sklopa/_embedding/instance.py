"""Tokens -> instance embedding: one vector for each row, from an encoder without a prompt.

Heads also read what earlier layers know, which serves some tasks better than the last layer does
(Tenney et al., 2019): a second view of the row, two thirds up. It stands in front of the instance
embedding, which prompts are made of.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from sklopa._backbone.frozen import Frozen
from sklopa._batches.order import inference_chunks
from sklopa._batches.out_of_memory import halve_until_it_fits
from sklopa._cache import process
from sklopa._cache.disk import DiskStore
from sklopa._cache.process import Row
from sklopa._tokens.batch import AnyBatch, Item, collate

_CHUNK_ROWS = 32


def read_instances(frozen: Frozen, tokens: AnyBatch, n_views: int = 1) -> Tensor:
    """Instance embeddings (B, E) of one batch, with two views (B, 2 E)."""
    if n_views == 1:
        return frozen.pool(frozen.states_behind(None, tokens), tokens)
    earlier, last = (frozen.pool(states, tokens) for states in frozen.views(tokens))
    length, wanted = (view.norm(dim=1, keepdim=True) for view in (earlier, last))
    return torch.cat([earlier * (wanted / length.clamp(min=1e-12)), last], dim=1)


def embed_rows(
    frozen: Frozen,
    rows: Sequence[Row],
    max_tokens: int | None,
    memory: str | os.PathLike | None = None,
    n_views: int = 1,
) -> Tensor:
    """Instance embeddings (n, n_views E) on the CPU.

    Each distinct row is encoded once in a process.
    Of a text pair each text is encoded by itself, and the two vectors are compared: E = 2 D,
    their absolute difference and their product, element by element (Conneau et al., 2017).
    With a `memory` folder a text is encoded once for all processes that use the folder.

    A truncated text is embedded from the tokens that remain; whoever reads the text for the
    backbone counts and reports it.
    """
    if rows and isinstance(rows[0], tuple):
        texts = [text for column in zip(*rows, strict=True) for text in column]
        u, v = embed_rows(frozen, texts, max_tokens, memory, n_views).chunk(2)
        u, v = (x.unflatten(1, (n_views, -1)) for x in (u, v))
        return torch.cat([(u - v).abs(), u * v], dim=2).flatten(1)
    namespace = ("embedding", frozen.key, frozen.family.pooling, frozen.dtype, max_tokens, n_views)

    def compute(missing: list[Row]) -> Iterator[tuple[int, np.ndarray]]:
        tokens, _ = frozen.reader(max_tokens).read(missing)
        lengths, rows_at_once = np.array([len(row) for row in tokens]), _CHUNK_ROWS
        for chunk in inference_chunks(lengths, _CHUNK_ROWS):
            chosen = [tokens[i] for i in chunk]
            vectors, rows_at_once = halve_until_it_fits(
                lambda n, chosen=chosen: _embed_chunk(frozen, chosen, n, n_views),
                rows_at_once,
                max(map(len, chosen)),
            )
            yield from zip(chunk.tolist(), vectors, strict=True)

    store = None
    if memory is not None and frozen.fingerprint is not None:
        store = DiskStore(memory, repr((frozen.fingerprint, *namespace[2:])))
    vectors = process.EMBEDDINGS.compute(namespace, rows, compute, process.array_bytes, store)
    return torch.from_numpy(np.stack(vectors))


def _embed_chunk(
    frozen: Frozen, tokens: Sequence[Item], rows_at_once: int, n_views: int
) -> np.ndarray:
    parts = []
    with torch.no_grad():  # not inference mode: what a model keeps must serve training later
        for start in range(0, len(tokens), rows_at_once):
            batch = collate(tokens[start : start + rows_at_once]).to(frozen.device)
            parts.append(read_instances(frozen, batch, n_views).cpu().numpy())
    return np.concatenate(parts)


class TrainedEncoder(nn.Module):
    """A private copy of an encoder that is trained with the prompt (`train_encoder=True`).

    This is the authors' setting for GLUE; all of its weights then count as trainable.
    """

    def __init__(self, frozen: Frozen) -> None:
        super().__init__()
        self.body = copy.deepcopy(frozen.base).float().requires_grad_(True)
        self._reader = (frozen.with_body(self.body),)  # reads as the frozen one does

    def train(self, mode: bool = True) -> TrainedEncoder:
        """Stay without dropout, whose masks would come from the global generator."""
        return super().train(False)

    def forward(self, tokens: AnyBatch) -> Tensor:
        """Instance embeddings (B, E)."""
        return read_instances(self._reader[0], tokens)
