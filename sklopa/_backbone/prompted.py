"""Soft prompt and embedded text as one input of the frozen model."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sklopa._tokens.batch import TokenBatch


@dataclass(frozen=True)
class PromptedBatch:
    """What the frozen backbone runs on: the embedded text with the prompt in it, then padding.

    Attributes
    ----------
    embeds : Tensor of shape (B, P + T, D)
    mask : Tensor of shape (B, P + T), int64
    positions : Tensor of shape (B, P + T), int64, counted from 0 at the first row
    types : Tensor of shape (B, P + T), int64, or None
    prompt_length : int, P
    start : Tensor of shape (B,), int64; where the prompt begins
    deep : Tensor of shape (B, L - 1, P, D), prompt rows of the later layers, or None
    """

    embeds: Tensor
    mask: Tensor
    positions: Tensor
    types: Tensor | None
    prompt_length: int
    start: Tensor
    deep: Tensor | None = None


def pad_left(inputs: PromptedBatch) -> PromptedBatch:
    """The same rows with padding in front, so that all of them end at the same place.

    Prompt and text keep their order and positions behind the padding.
    """
    length = inputs.mask.shape[1]
    padding = length - inputs.mask.sum(dim=1, keepdim=True)  # (B, 1)
    source = (torch.arange(length, device=inputs.mask.device) - padding) % length  # (B, L)
    mask = _pick(inputs.mask, source)
    return replace(
        inputs,
        embeds=_pick(inputs.embeds, source),
        mask=mask,
        positions=_count(mask),
        types=None if inputs.types is None else _pick(inputs.types, source),
        start=inputs.start + padding.squeeze(1),
    )


def with_prompt(prompt: Tensor | None, embeds: Tensor, tokens: TokenBatch) -> PromptedBatch:
    """Put prompts (B, P, D), or (B, L, P, D) for all layers, into embedded texts (B, T, D).

    Each stands behind the first `tokens.prompt_at` tokens of its row. Mask, positions and token
    types are made here, after the prompt is in place, and nowhere else: the text behind it is
    shifted by P as it would be behind P real tokens.
    """
    mask, types, length, deep = tokens.mask, tokens.types, 0, None
    # A model that looks at neighbours must find nothing where there is padding.
    embeds = embeds * mask.unsqueeze(-1).to(embeds.dtype)
    if prompt is not None:
        if prompt.ndim == 4:
            prompt, deep = prompt[:, 0], prompt[:, 1:]
        length = prompt.shape[1]
        source = _source(tokens.prompt_at, length, mask.shape[1])
        embeds = _pick(torch.cat([prompt.to(embeds.dtype), embeds], dim=1), source)
        mask = torch.cat(
            [mask.new_ones(mask.shape[0], length), mask], dim=1
        )  # padding stays behind
        if types is not None:
            types = _pick(
                torch.cat([types.new_zeros(types.shape[0], length), types], dim=1), source
            )
    return PromptedBatch(embeds, mask, _count(mask), types, length, tokens.prompt_at, deep)


def without_prompt(states: Tensor, inputs: PromptedBatch) -> Tensor:
    """The states (B, T, D) of the texts among those (B, P + T, D) of a prompted batch."""
    n_tokens = inputs.mask.shape[1] - inputs.prompt_length
    places = torch.arange(n_tokens, device=states.device)
    behind = places >= inputs.start.unsqueeze(1)  # (B, T)
    return _pick(states, places + inputs.prompt_length * behind)


def _source(prompt_at: Tensor, n_rows: int, n_tokens: int) -> Tensor:
    """For each place of the whole, (B, P + T), where it comes from in prompt and text side by side.

    Among the places up to the end of the prompt, those of the tokens in front of it and its own
    change sides; the others stay.
    """
    places = torch.arange(n_rows + n_tokens, device=prompt_at.device)
    start = prompt_at.unsqueeze(1)
    moved = torch.where(places < start, places + n_rows, places - start)
    return torch.where(places < start + n_rows, moved, places)


def _pick(values: Tensor, source: Tensor) -> Tensor:
    """The entries of each row of `values` (B, N, ...) at the places `source` (B, M) of that row."""
    rows = torch.arange(source.shape[0], device=source.device).unsqueeze(1)
    return values[rows, source]


def _count(mask: Tensor) -> Tensor:
    """Positions (B, N), counted from 0 at the first row that is no padding."""
    return (mask.cumsum(dim=1) - 1).clamp(min=0)
