"""Tokens of one input, and of a batch, as frozen dataclasses.

Letters used for shapes everywhere in sklopa: B batch, T tokens, P prompt length (rows
beside the text), R rank, D backbone width, E encoder width, H bottleneck width,
C classes (columns of the output), L backbone layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sklopa._tokens.tokens import Tokens


class AnyBatch(Protocol):
    """B inputs side by side."""

    def __len__(self) -> int: ...

    def to(self, device: torch.device) -> AnyBatch:
        """The same batch on `device`."""


def collate(rows: Sequence[Any]) -> AnyBatch:
    """Rows of one kind as one batch."""
    if isinstance(rows[0], Tokens):
        return TokenBatch.collate(list(rows))
    return rows[0].collate(rows)


@dataclass(frozen=True)
class TokenBatch:
    """Tokens of B inputs, padded on the right to the longest of them.

    Attributes
    ----------
    ids : Tensor of shape (B, T), int64
    mask : Tensor of shape (B, T), int64; 1 for a token, 0 for padding
    types : Tensor of shape (B, T), int64, or None
    slot : Tensor of shape (B,), int64; position of the token to read
    prompt_at : Tensor of shape (B,), int64; tokens in front of the prompt
    target, target_mask : Tensors of shape (B, K), int64, or None
    states : Tensor of shape (B, T, D), or None
    """

    ids: Tensor
    mask: Tensor
    types: Tensor | None
    slot: Tensor
    prompt_at: Tensor
    target: Tensor | None = None
    target_mask: Tensor | None = None
    states: Tensor | None = None

    @classmethod
    def collate(cls, rows: list[Tokens], pad_id: int = 0) -> TokenBatch:
        """Pad `rows` on the right and stack them."""
        ids, mask = _stack([row.ids for row in rows], pad_id)
        kinds = [row.types for row in rows if row.types is not None]
        types = _stack(kinds)[0] if kinds else None
        slot = [row.slot if row.slot >= 0 else max(0, len(row) - 1) for row in rows]
        prompt_at = torch.tensor([row.prompt_at for row in rows])
        targets = [row.target for row in rows if row.target is not None]
        target, target_mask = _stack(targets) if targets else (None, None)
        known = [row.states for row in rows if row.states is not None]
        states = pad_sequence(known, batch_first=True) if len(known) == len(rows) else None
        return cls(ids, mask, types, torch.tensor(slot), prompt_at, target, target_mask, states)

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device) -> TokenBatch:
        """The same batch on `device`."""
        moved = {k: v.to(device) for k, v in vars(self).items() if v is not None}
        return replace(self, **moved)


def _stack(rows: list[np.ndarray], fill: int = 0) -> tuple[Tensor, Tensor]:
    """Rows of tokens under each other, (B, T), and where there is one, (B, T)."""
    shape = (len(rows), max(1, max(len(row) for row in rows)))
    values = np.full(shape, fill, dtype=np.int64)
    mask = np.zeros(shape, dtype=np.int64)
    for i, row in enumerate(rows):
        values[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return torch.from_numpy(values), torch.from_numpy(mask)
