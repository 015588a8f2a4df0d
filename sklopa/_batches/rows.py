"""Inputs made ready for the network: everything that is computed once for a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklopa._tokens.batch import AnyBatch, TokenBatch, collate


@dataclass(frozen=True)
class Views:
    """What the frozen model alone makes of n rows.

    Attributes
    ----------
    last : Tensor of shape (n, E), the instance embeddings, which prompts are made of
    second : Tensor of shape (n, F), or None
        What else a head may read of the rows, scaled to the length of the instance embeddings.
    """

    last: Tensor
    second: Tensor | None = None

    def __len__(self) -> int:
        return len(self.last)

    @property
    def firsts(self) -> list[int]:
        """Columns of `joined` at which a view begins."""
        return [0] if self.second is None else [0, self.second.shape[1]]

    def joined(self) -> Tensor:
        """All that is known of each row, (n, F + E), the instance embedding last."""
        if self.second is None:
            return self.last
        return torch.cat([self.second, self.last], dim=1)

    def each(self, change: Callable[[Tensor], Tensor]) -> Views:
        """The same views, changed one by one."""
        return Views(change(self.last), None if self.second is None else change(self.second))

    def to(self, device: torch.device) -> Views:
        """The same views on `device`."""
        return self.each(lambda view: view.to(device))

    def __getitem__(self, rows: Tensor) -> Views:
        return self.each(lambda view: view[rows])


@dataclass(frozen=True)
class Batch:
    """All that the network needs for B rows. Parts that a network does not read are None.

    Attributes
    ----------
    tokens : TokenBatch, or PixelBatch, of what the frozen backbone reads
    views : Views of B rows: the instance embeddings (or, for a linear probe, the frozen features
        themselves) and another view of the rows
    encoder_tokens : batch of what a *trained* instance encoder reads
    target : Tensor of shape (B,) or (B, C)
    weight : Tensor of shape (B,), sample weights with mean one over the training set
    offset : Tensor of shape (B, C), added to the outputs in training
    """

    tokens: AnyBatch | None = None
    views: Views | None = None
    encoder_tokens: AnyBatch | None = None
    target: Tensor | None = None
    weight: Tensor | None = None
    offset: Tensor | None = None

    def __len__(self) -> int:
        known = self.views if self.tokens is None else self.tokens
        assert known is not None  # a row is read by the backbone, or known already
        return len(known)

    @property
    def texts(self) -> TokenBatch:
        """The tokens of rows that are texts."""
        assert isinstance(self.tokens, TokenBatch)
        return self.tokens

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""
        moved = {k: v.to(device) for k, v in vars(self).items() if v is not None}
        return replace(self, **moved)


@dataclass(frozen=True)
class Rows:
    """n inputs, ready to be cut into batches. Parts that the network does not read are None.

    Attributes
    ----------
    tokens : list of Tokens, or Pixels, that the frozen backbone reads
    views : Views of n rows, as in a batch
    encoder_tokens : list of what a trained instance encoder reads
    target : Tensor of shape (n,) or (n, C)
    weight : Tensor of shape (n,), with mean one
    offset : Tensor of shape (n, C), added to the outputs in training
    group : Tensor of shape (n,), equal for rows that hold the same input
    """

    tokens: Sequence[Any] | None = None
    views: Views | None = None
    encoder_tokens: Sequence[Any] | None = None
    target: Tensor | None = None
    weight: Tensor | None = None
    offset: Tensor | None = None
    group: Tensor | None = None

    def __len__(self) -> int:
        known = self.views if self.tokens is None else self.tokens
        assert known is not None  # a row is read by the backbone, or known already
        return len(known)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row (n,), which is what its cost grows with."""
        if self.tokens is None:
            return np.ones(len(self), dtype=np.int64)
        return np.array([len(row) for row in self.tokens], dtype=np.int64)

    def longest(self, indices: np.ndarray) -> int:
        """Tokens of the longest of the rows at `indices`."""
        return 1 if self.tokens is None else max(len(self.tokens[i]) for i in indices)

    def weights(self) -> np.ndarray | None:
        """Weights of the rows (n,) for a score; None where all count alike."""
        if self.weight is None or bool((self.weight == self.weight[0]).all()):
            return None
        return self.weight.double().numpy()

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

        def items(rows: Sequence[Any] | None) -> AnyBatch | None:
            return None if rows is None else collate([rows[i] for i in indices])

        def pick(values: Any) -> Any:
            return None if values is None else values[where]

        return Batch(
            tokens=items(self.tokens),
            views=pick(self.views),
            encoder_tokens=items(self.encoder_tokens),
            target=pick(self.target),
            weight=pick(self.weight),
            offset=pick(self.offset),
        )

    def subset(self, indices: np.ndarray) -> Rows:
        """The rows at `indices`, as rows."""
        where = torch.from_numpy(np.ascontiguousarray(indices))
        parts: dict[str, Any] = {}
        for name, value in vars(self).items():
            if isinstance(value, list):
                parts[name] = [value[i] for i in indices]
            elif value is not None:
                parts[name] = value[where]
        return Rows(**parts)
