"""A trained linear layer on pooled states."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sklopa._backbone.frozen import Frozen
from sklopa._batches.rows import Batch, Views
from sklopa._heads.head import StateHead


class LinearHead(StateHead):
    """A trained linear layer on pooled states, and on the views of the row where there are any.

    The frozen model's own view of a row is known anyway; with it the head can never know less
    than a linear probe does.

    Parameters
    ----------
    frozen : Frozen
        Model whose states are read, pooled as the model has it.
    n_outputs : int, C
    n_inputs : int
        D, or D + F + E with the views of the row, instance embedding last, beside them.
    """

    def __init__(self, frozen: Frozen[Any], n_outputs: int, n_inputs: int) -> None:
        super().__init__(frozen)
        self.weight = nn.Parameter(torch.zeros(n_outputs, n_inputs, dtype=torch.float32))
        self.bias = nn.Parameter(torch.zeros(n_outputs, dtype=torch.float32))

    def features(self, states: Tensor, batch: Batch) -> Tensor:
        """Pooled states: (B, D)."""
        return self.frozen.pool(states, batch.tokens)

    def inputs(self, features: Tensor, views: Views | None) -> Tensor:
        """What the layer reads, (B, n_inputs)."""
        if views is None or features.shape[1] == self.weight.shape[1]:
            return features
        return torch.cat([features, views.joined()], dim=1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs (B, C)."""
        return nn.functional.linear(inputs, self.weight, self.bias)

    @torch.no_grad()
    def start_from(self, weight: Tensor, bias: Tensor) -> None:
        """Begin at a linear model of the last D' inputs: weight (C, D'), bias (C,)."""
        self.weight[:, self.weight.shape[1] - weight.shape[1] :] = weight
        self.bias.copy_(bias)
