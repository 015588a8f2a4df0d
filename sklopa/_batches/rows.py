"""Inputs made ready for the network: everything that is computed once for a row."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sklopa._tokens.batch import AnyBatch, Batch, Item, collate


@dataclass(frozen=True)
class Rows:
    """n inputs, ready to be cut into batches. Parts that the network does not read are None.

    Attributes
    ----------
    tokens : list of Tokens, or Pixels, that the frozen backbone reads
    embedding : Tensor of shape (n, n_views E), as in a batch
    encoder_tokens : list of what a trained instance encoder reads
    target : Tensor of shape (n,) or (n, C)
    weight : Tensor of shape (n,), with mean one
    offset : Tensor of shape (n, C), added to the outputs in training
    group : Tensor of shape (n,), equal for rows that hold the same input
    """

    tokens: list[Item] | None = None
    embedding: Tensor | None = None
    encoder_tokens: list[Item] | None = None
    target: Tensor | None = None
    weight: Tensor | None = None
    offset: Tensor | None = None
    group: Tensor | None = None

    def __len__(self) -> int:
        return len(self.embedding if self.tokens is None else self.tokens)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row (n,), which is what its cost grows with."""
        if self.tokens is None:
            return np.ones(len(self), dtype=np.int64)
        return np.array([len(row) for row in self.tokens], dtype=np.int64)

    def longest(self, indices: np.ndarray) -> int:
        """Tokens of the longest of the rows at `indices`."""
        return 1 if self.tokens is None else max(len(self.tokens[i]) for i in indices)

    def with_target(self, target: Tensor) -> Rows:
        """The same rows with something to learn."""
        return replace(self, target=target)

    def with_weight(self, weight: Tensor) -> Rows:
        """The same rows with sample weights of mean one."""
        return replace(self, weight=weight)

    def with_offset(self, offset: Tensor) -> Rows:
        """The same rows with something to add to their outputs in training."""
        return replace(self, offset=offset)

    def with_group(self, group: Tensor) -> Rows:
        """The same rows, and which of them are equal."""
        return replace(self, group=group)

    def batch(self, indices: np.ndarray) -> Batch:
        """The rows at `indices` as one batch."""
        where = torch.from_numpy(np.ascontiguousarray(indices))

        def items(rows: list[Item] | None) -> AnyBatch | None:
            return None if rows is None else collate([rows[i] for i in indices])

        def pick(values: Tensor | None) -> Tensor | None:
            return None if values is None else values[where]

        return Batch(
            tokens=items(self.tokens),
            embedding=pick(self.embedding),
            encoder_tokens=items(self.encoder_tokens),
            target=pick(self.target),
            weight=pick(self.weight),
            offset=pick(self.offset),
        )

    def subset(self, indices: np.ndarray) -> Rows:
        """The rows at `indices`, as rows."""
        where = torch.from_numpy(np.ascontiguousarray(indices))
        parts = {}
        for name, value in vars(self).items():
            if isinstance(value, list):
                parts[name] = [value[i] for i in indices]
            elif value is not None:
                parts[name] = value[where]
        return Rows(**parts)
