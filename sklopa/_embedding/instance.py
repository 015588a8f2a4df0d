"""Tokens -> instance embedding: one vector for each row, from an encoder without a prompt.

Heads also read a second view of the row, which the same pass gives: of a text what an earlier
layer knows, of an image what is where.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklopa._backbone.frozen import Frozen, Unprompted
from sklopa._batches.rows import Views
from sklopa._batches.run import run_in_batches
from sklopa._cache import process
from sklopa._cache.disk import open_store
from sklopa._inputs.texts import Row
from sklopa._tokens.batch import AnyBatch, collate

_CHUNK_ROWS = 32


def read_instances(frozen: Frozen[Any], tokens: AnyBatch) -> Tensor:
    """Instance embeddings (B, E) of one batch."""
    return frozen.pool(frozen.states_behind(None, tokens), tokens)


def as_views(frozen: Frozen[Any], seen: Unprompted, tokens: AnyBatch) -> Views:
    """Both views of one batch, (B, E) and (B, F), of equal length."""
    second, last = seen.second, frozen.pool(seen.last, tokens)
    length, wanted = (view.norm(dim=1, keepdim=True) for view in (second, last))
    return Views(last, second * (wanted / length.clamp(min=1e-12)))


def embed_rows(
    frozen: Frozen[Any],
    rows: Sequence[Any],
    max_tokens: int | None,
    memory: str | os.PathLike | None = None,
    n_views: int = 1,
    keep: Callable[[Any, Any, Tensor], None] | None = None,
    special_tokens: bool = False,
) -> Views:
    """Instance embeddings (n, E) on the CPU, with a second view of the rows if wanted.

    Each distinct row is encoded once in a process.
    Of a text pair each text is encoded by itself, and the two vectors are compared: E = 2 D,
    their absolute difference and their product, element by element (Conneau et al., 2017).
    With a `memory` folder a text is encoded once for all processes that use the folder.

    `keep` is given each row that is encoded, its tokens, and the states (T, D) that the layer of a
    prompt reads of them.

    A truncated text is embedded from the tokens that remain; whoever reads the text for the
    backbone counts and reports it.
    """
    if rows and isinstance(rows[0], tuple):
        texts = [text for column in zip(*rows, strict=True) for text in column]
        views = embed_rows(frozen, texts, max_tokens, memory, n_views, None, special_tokens)
        return views.each(lambda columns: compared(*columns.chunk(2)))
    held = (frozen.family.pooling, str(frozen.dtype), frozen.device.type)
    made = (*held, max_tokens, n_views, special_tokens)
    namespace = ("embedding", frozen.identity, *made)
    second_width = frozen.second_width if n_views > 1 else 0

    def compute(missing: list[Row]) -> Iterator[tuple[int, np.ndarray]]:
        tokens, _ = frozen.reader(max_tokens, special_tokens=special_tokens).read(missing)
        lengths = np.array([len(row) for row in tokens])

        def embed(indices: np.ndarray) -> np.ndarray:
            chosen = [(missing[i], tokens[i]) for i in indices]
            return _embed_batch(frozen, chosen, n_views, keep)

        for indices, vectors in run_in_batches(lengths, _CHUNK_ROWS, embed):
            yield from zip(indices.tolist(), vectors, strict=True)

    store = None
    if memory is not None and frozen.files is not None:
        content = json.dumps([frozen.content, *made], sort_keys=True)
        store = open_store(memory, content, width=frozen.width + second_width)
        store.open()
    vectors = process.EMBEDDINGS.compute(namespace, rows, compute, process.array_bytes, store)
    joined = torch.from_numpy(np.stack(vectors))
    if n_views == 1:
        return Views(joined)
    second, last = joined.split([second_width, frozen.width], dim=1)
    return Views(last, second)


def _embed_batch(
    frozen: Frozen[Any],
    chosen: Sequence[tuple[Any, Any]],
    n_views: int,
    keep: Callable[[Any, Any, Tensor], None] | None,
) -> np.ndarray:
    """Views of rows with their tokens, joined."""
    batch = collate([tokens for _, tokens in chosen]).to(frozen.device)
    if n_views == 1 and keep is None:
        return read_instances(frozen, batch).cpu().numpy()
    seen = frozen.unprompted(batch)
    if keep is not None and seen.lower is not None:
        for (row, tokens), states in zip(chosen, seen.lower, strict=True):
            keep(row, tokens, states)
    if n_views == 1:
        return frozen.pool(seen.last, batch).cpu().numpy()
    return as_views(frozen, seen, batch).joined().cpu().numpy()


def compared(u: Tensor, v: Tensor) -> Tensor:
    """One vector (n, 2 D) for each pair, from those (n, D) of its first and its second text."""
    return torch.cat([(u - v).abs(), u * v], dim=1)
