"""Soft prompt and embedded text as one input of the frozen model."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sklopa._tokens.batch import TokenBatch


@dataclass(frozen=True)
class PromptedBatch:
    """What the frozen backbone runs on: prompt rows, then the embedded text, then padding.

    Attributes
    ----------
    embeds : Tensor of shape (B, P + T, D)
    mask : Tensor of shape (B, P + T), int64
    positions : Tensor of shape (B, P + T), int64, counted from 0 at the first prompt row
    types : Tensor of shape (B, P + T), int64, or None
    prompt_length : int, P
    start : Tensor of shape (B,), int64; where the prompt begins, behind any padding in front
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

    Prompt and text keep their order and positions: padding, prompt, text.
    """
    length = inputs.mask.shape[1]
    padding = length - inputs.mask.sum(dim=1, keepdim=True)  # (B, 1)
    source = (torch.arange(length, device=inputs.mask.device) - padding) % length  # (B, L)
    rows = torch.arange(len(source), device=source.device).unsqueeze(1)
    mask = inputs.mask[rows, source]
    types = None if inputs.types is None else inputs.types[rows, source]
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    return replace(
        inputs,
        embeds=inputs.embeds[rows, source],
        mask=mask,
        positions=positions,
        types=types,
        start=padding.squeeze(1),
    )


def prepend(prompt: Tensor | None, embeds: Tensor, tokens: TokenBatch) -> PromptedBatch:
    """Put prompts (B, P, D), or (B, L, P, D) for all layers, before embedded texts (B, T, D).

    Mask, positions and token types are made here, after the prompt is in place, and nowhere
    else: positions count from the first prompt row, so the text is shifted by P as it would
    be behind P real tokens.
    """
    mask, types, length, deep = tokens.mask, tokens.types, 0, None
    # A model that looks at neighbours must find nothing where there is padding.
    embeds = embeds * mask.unsqueeze(-1).to(embeds.dtype)
    if prompt is not None:
        if prompt.ndim == 4:
            prompt, deep = prompt[:, 0], prompt[:, 1:]
        length = prompt.shape[1]
        embeds = torch.cat([prompt.to(embeds.dtype), embeds], dim=1)  # (B, P + T, D)
        mask = torch.cat([mask.new_ones(len(mask), length), mask], dim=1)
        if types is not None:
            types = torch.cat([types.new_zeros(len(types), length), types], dim=1)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    start = mask.new_zeros(len(mask))
    return PromptedBatch(embeds, mask, positions, types, length, start, deep)
