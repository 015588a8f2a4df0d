"""Source and target texts -> how likely the backbone finds the targets behind its prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklopa._backbone.frozen import Frozen
from sklopa._backbone.language import FrozenLanguageModel, as_language_model
from sklopa._backbone.lm_head import end_ids, start_id
from sklopa._backbone.prompted import PromptedBatch
from sklopa._batches.rows import Batch, Rows
from sklopa._heads.head import Head
from sklopa._tokens.batch import TokenBatch, Tokens
from sklopa._tokens.truncation import Truncation


class LikelihoodHead(Head):
    """The frozen language-model head, read at every target token. Nothing in it is trained."""

    def read(self, frozen: Frozen[Any], prompt: Tensor | None, batch: Batch) -> Tensor:
        """Mean log-probability of a target token, (B,)."""
        model, tokens = as_language_model(frozen), batch.texts
        assert tokens.target is not None  # of rows that are to be learned, or scored
        assert tokens.target_mask is not None
        logits = target_logits(model, model.inputs_behind(prompt, tokens), tokens)
        log_p = logits.log_softmax(dim=-1)
        log_p = log_p.gather(-1, tokens.target.unsqueeze(-1)).squeeze(-1)  # (B, K)
        mask = tokens.target_mask
        return (log_p * mask).sum(dim=1) / mask.sum(dim=1)


def target_logits(frozen: FrozenLanguageModel, inputs: PromptedBatch, tokens: TokenBatch) -> Tensor:
    """Vocabulary logits (B, K, V) at the places that predict the target tokens."""
    assert tokens.target is not None  # as in `LikelihoodHead.read`
    if frozen.family.kind == "decoder":
        states = frozen.states(inputs)
        n_targets = tokens.target.shape[1]
        places = inputs.prompt_length + tokens.slot.unsqueeze(1)  # (B, 1)
        places = places + torch.arange(n_targets, device=states.device)  # (B, K)
        places = places.clamp(max=states.shape[1] - 1)  # shorter targets: masked later
        rows = torch.arange(len(states), device=states.device).unsqueeze(1)
        return frozen.lm_logits(states[rows, places])
    with frozen.deep(inputs):
        out = frozen.model(
            inputs_embeds=inputs.embeds.to(frozen.dtype),
            attention_mask=inputs.mask,
            decoder_input_ids=_shift_right(frozen, tokens.target),
            use_cache=False,
        )
    return out.logits.float()


def _shift_right(frozen: FrozenLanguageModel, target: Tensor) -> Tensor:
    first = torch.full_like(target[:, :1], start_id(frozen) or 0)
    return torch.cat([first, target[:, :-1]], dim=1)


def join_targets(
    frozen: FrozenLanguageModel,
    rows: Rows,
    texts: Sequence[str],
    limit: int | None,
    n_rows: int,
    special_tokens: bool = False,
) -> tuple[Rows, Truncation]:
    """Rows with something to write: each source with the tokens of its target.

    The end token is learned like any other. A target over `limit` tokens, or over what the
    backbone has room for behind `n_rows` prompt rows and the source, loses its end.
    """
    end = getattr(frozen.tokenizer, "eos_token_id", None)
    ends = end_ids(frozen)[:1] if end is None else [end]
    encoded = frozen.reader(None, special_tokens=special_tokens).ids_of(texts)
    joined, n_cut = [], 0
    for source, ids in zip(rows.tokens or (), encoded, strict=True):
        room = _target_room(frozen, len(source), limit, n_rows)
        target = np.array((ids + ends)[:room], dtype=np.int64)
        n_cut += len(target) < len(ids) + len(ends)
        joined.append(_join(frozen, source, target))
    return replace(rows, tokens=joined), Truncation(n_cut, len(joined), limit)


def _target_room(
    frozen: FrozenLanguageModel, n_source: int, limit: int | None, n_rows: int
) -> int | None:
    """Most tokens of a target; a decoder has one room for prompt, source and target."""
    room = frozen.room
    if room is not None and frozen.family.kind == "decoder":
        room = max(1, room - n_rows - n_source + 1)
    return min((n for n in (room, limit) if n is not None), default=None)


def _join(frozen: FrozenLanguageModel, source: Tokens, target: np.ndarray) -> Tokens:
    """One training row: what is read, and what is to be predicted from it.

    A decoder reads the source and all target tokens but the last; an encoder-decoder reads the
    source, and its decoder gets the target by itself.
    """
    if frozen.family.kind == "encoder-decoder":
        return replace(source, slot=-1, target=target)
    ids = np.concatenate([source.ids, target[:-1]])
    return replace(source, ids=ids, types=None, slot=len(source) - 1, target=target)
