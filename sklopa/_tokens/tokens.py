"""The tokens of one input, before it meets a batch. It imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Tokens:
    """The tokens of one input, before it meets a batch.

    Attributes
    ----------
    ids : ndarray of shape (T,), int64
    types : ndarray of shape (T,), int64, or None
        Which of the two texts of a pair a token belongs to.
    slot : int
        Index of the token whose state a verbaliser reads, or that predicts the first token of
        a target; -1 for the last one.
    prompt_at : int
        Tokens in front of the prompt.
    target : ndarray of shape (K,), int64, or None
        Tokens to be generated, the end token included.
    states : Tensor of shape (T, D), or None
        What the layer of the prompt reads of them, where that is known.
    """

    ids: np.ndarray
    types: np.ndarray | None = None
    slot: int = -1
    prompt_at: int = 0
    target: np.ndarray | None = None
    states: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)
