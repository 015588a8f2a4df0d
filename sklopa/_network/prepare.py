"""Inputs -> rows that the network can run on: every stage that is computed once for an input."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from sklopa._backbone.frozen import Frozen
from sklopa._batches.rows import Rows, Views
from sklopa._embedding.instance import embed_rows
from sklopa._loading.live import live_model
from sklopa._network.design import Design
from sklopa._network.pipe import LoPANetwork
from sklopa._tokens.truncation import Truncation

Memory = str | os.PathLike | None


class PreparedRows(NamedTuple):
    """Rows, and how many of them lost their end."""

    rows: Rows
    truncation: Truncation


def prepare_rows(
    network: LoPANetwork, design: Design, inputs: Sequence[Any], memory: Memory = None
) -> PreparedRows:
    """Tokens (or pixels) and instance embeddings, the latter also kept in a `memory` folder."""
    frozen = network.frozen
    limit = token_limit(frozen, design.max_length, design.n_rows + design.reserved)
    tokens, n_truncated = frozen.reader(limit, design.template).read(inputs)
    truncation = Truncation(n_truncated, len(inputs), limit)
    if design.is_probe:
        return PreparedRows(Rows(views=embed_inputs(design, inputs, memory)), truncation)
    if not design.reads_instances:
        return PreparedRows(Rows(tokens=tokens), truncation)
    encoder = live_model(design.encoder)
    # The encoder sees no prompt, so its limit does not depend on P and its work is shared.
    limit = token_limit(encoder, design.max_length, 0)
    if network.encoder is not None:
        encoder_tokens, _ = encoder.reader(limit).read(inputs)
        return PreparedRows(Rows(tokens=tokens, encoder_tokens=encoder_tokens), truncation)
    views = embed_rows(encoder, inputs, limit, memory, design.n_views)
    return PreparedRows(Rows(tokens=tokens, views=views), truncation)


def embed_inputs(design: Design, inputs: Sequence[Any], memory: Memory = None) -> Views:
    """What the frozen model itself makes of inputs, without a prompt."""
    frozen = live_model(design.backbone)
    limit = token_limit(frozen, design.max_length, 0)
    return embed_rows(frozen, inputs, limit, memory, design.n_views)


def token_limit(frozen: Frozen[Any], max_length: int | None, n_rows: int) -> int | None:
    """Most tokens of a text, with `n_rows` positions for others; None if nothing bounds them."""
    room = None if frozen.room is None else frozen.room - n_rows
    limits = [n for n in (room, max_length) if n is not None]
    return min(limits, default=None)
