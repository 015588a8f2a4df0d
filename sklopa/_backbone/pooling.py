"""States of a text -> one vector: which positions are read."""

from __future__ import annotations

import torch
from torch import Tensor

from sklopa._tokens.batch import TokenBatch


def pool(states: Tensor, tokens: TokenBatch, pooling: str) -> Tensor:
    """One vector (B, D) for each text, from states (B, T, D).

    Reads by the attention mask, so that padding is never taken for a token.
    """
    if pooling == "first":
        return states[:, 0]
    if pooling == "last":
        return states_at(states, tokens.mask.sum(dim=1) - 1)
    mask = tokens.mask.unsqueeze(-1).to(states.dtype)
    return (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def states_at(states: Tensor, position: Tensor) -> Tensor:
    """States (B, D) at one position (B,) of each row."""
    rows = torch.arange(len(states), device=states.device)
    return states[rows, position]
