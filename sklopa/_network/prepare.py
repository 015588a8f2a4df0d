"""Inputs -> rows that the network can run on: every stage that is computed once for an input."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from sklopa._backbone.frozen import Frozen
from sklopa._batches.rows import Rows, Views
from sklopa._embedding.instance import embed_rows
from sklopa._embedding.lower_states import LowerStates
from sklopa._network.design import Design
from sklopa._network.pipe import LoPANetwork
from sklopa._tokens.truncation import Truncation
from sklopa.errors import UnsupportedBackbone

Memory = str | os.PathLike | None


class PreparedRows(NamedTuple):
    """Rows, and how many of them lost their end."""

    rows: Rows
    truncation: Truncation


def prepare_rows(
    network: LoPANetwork,
    design: Design,
    inputs: Sequence[Any],
    memory: Memory = None,
    *,
    for_steps: bool = False,
) -> PreparedRows:
    """Tokens (or pixels) and instance embeddings, the latter also kept in a `memory` folder.

    Where the prompt joins a later layer, the states below it are made ready too: in the precision
    of training steps, or in that of predictions.
    """
    frozen = network.frozen
    limit = token_limit(frozen, design.max_length, design.n_rows + design.reserved)
    reader = frozen.reader(limit, design.template, design.special_tokens)
    tokens, n_truncated = reader.read(inputs)
    side = getattr(frozen.reads_with, "truncation_side", "right")
    truncation = Truncation(n_truncated, len(inputs), limit, side)
    if design.is_probe:
        return PreparedRows(Rows(views=embed_inputs(network, design, inputs, memory)), truncation)
    lower = None
    if design.prompt_layer:
        dtype = frozen.in_steps.dtype if for_steps else frozen.dtype
        lower = LowerStates(frozen, dtype, (limit, design.template, design.special_tokens))
    views = encoder_tokens = None
    if design.reads_instances:
        encoder = network.embedder
        # The encoder sees no prompt, so its limit does not depend on P and its work is shared.
        encoder_limit = token_limit(encoder, design.max_length, 0)
        if network.encoder is not None:
            reader = encoder.reader(encoder_limit, special_tokens=design.special_tokens)
            encoder_tokens, _ = reader.read(inputs)
        else:
            keep, alike = None, design.encoder == design.backbone and design.template is None
            if lower is not None and alike:  # one pass without a prompt gives both
                encoder, keep = frozen, _keep_whole(lower, limit)
            views = embed_rows(
                encoder, inputs, encoder_limit, memory, design.n_views, keep, design.special_tokens
            )
    if lower is not None:
        tokens = lower.attach(inputs, tokens)
    return PreparedRows(Rows(tokens, views, encoder_tokens), truncation)


def _keep_whole(lower: LowerStates, limit: int | None) -> Callable[[Any, Any, Tensor], None]:
    """What keeps the states of rows that are read alike with a prompt and without."""

    def keep(row: Any, tokens: Any, states: Tensor) -> None:
        if limit is None or len(tokens) <= limit:
            lower.keep(row, tokens, states)

    return keep


def embed_inputs(
    network: LoPANetwork, design: Design, inputs: Sequence[Any], memory: Memory = None
) -> Views:
    """What the frozen model itself makes of inputs, without a prompt."""
    frozen = network.frozen.plain
    limit = token_limit(frozen, design.max_length, 0)
    special = design.special_tokens
    return embed_rows(frozen, inputs, limit, memory, design.n_views, special_tokens=special)


def token_limit(frozen: Frozen[Any], max_length: int | None, n_rows: int) -> int | None:
    """Most tokens of a text, with `n_rows` positions for others; None if nothing bounds them."""
    room = None if frozen.room is None else frozen.room - n_rows
    if room is not None and room < 0:  # `fit` has checked it; what was stored may ask for more
        raise UnsupportedBackbone(
            f"{frozen.name!r} has {frozen.room} positions, and {n_rows} are asked beside a text."
        )
    limits = [n for n in (room, max_length) if n is not None]
    return min(limits, default=None)
