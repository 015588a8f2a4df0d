"""Inputs -> rows that the network can run on: every stage that is computed once for an input."""

from __future__ import annotations

import os
from collections.abc import Sequence

from torch import Tensor

from sklopa._backbone.frozen import Frozen
from sklopa._batches.rows import Rows
from sklopa._cache.process import Row
from sklopa._embedding.instance import embed_rows
from sklopa._loading.live import load
from sklopa._network.build import Design
from sklopa._network.pipe import LoPANetwork

Truncation = tuple[int, int, int | None]


def prepare_rows(
    network: LoPANetwork,
    design: Design,
    inputs: Sequence[Row],
    memory: str | os.PathLike | None = None,
) -> tuple[Rows, Truncation]:
    """Tokens (or pixels) and instance embeddings, the latter also kept in a `memory` folder.

    Returns
    -------
    rows : Rows
    truncation : (texts that were truncated, inputs, token limit)
    """
    frozen = network.frozen
    limit = token_limit(frozen, design.max_length, design.n_rows + design.reserved)
    tokens, n_truncated = frozen.reader(limit, design.template).read(inputs)
    truncation = (n_truncated, len(inputs), limit)
    if design.is_probe:
        return Rows(embedding=embed_inputs(design, inputs, memory)), truncation
    if not design.reads_instances:
        return Rows(tokens=tokens), truncation
    encoder = load(design.encoder)
    # The encoder sees no prompt, so its limit does not depend on P and its work is shared.
    limit = token_limit(encoder, design.max_length, 0)
    if network.encoder is not None:
        return Rows(tokens=tokens, encoder_tokens=encoder.reader(limit).read(inputs)[0]), truncation
    embedding = embed_rows(encoder, inputs, limit, memory, design.n_views)
    return Rows(tokens=tokens, embedding=embedding), truncation


def embed_inputs(
    design: Design, inputs: Sequence[Row], memory: str | os.PathLike | None = None
) -> Tensor:
    """What the frozen model itself makes of inputs, without a prompt: (n, n_views E)."""
    frozen = load(design.backbone)
    limit = token_limit(frozen, design.max_length, 0)
    return embed_rows(frozen, inputs, limit, memory, design.n_views)


def token_limit(frozen: Frozen, max_length: int | None, n_rows: int) -> int | None:
    """Most tokens of a text, with `n_rows` positions for others; None if nothing bounds them."""
    room = None if frozen.room is None else frozen.room - n_rows
    limits = [n for n in (room, max_length) if n is not None]
    return min(limits, default=None)
