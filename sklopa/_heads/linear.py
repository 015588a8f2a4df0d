"""States of the frozen backbone -> outputs: which positions are read, and how."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sklopa._backbone.frozen import Frozen
from sklopa._backbone.language import FrozenModel
from sklopa._backbone.pooling import states_at
from sklopa._tokens.batch import TokenBatch


class LinearHead(nn.Module):
    """A trained linear layer on pooled states, and on the views of the row where there are any.

    Parameters
    ----------
    frozen : Frozen
        Model whose states are read, pooled as the model has it.
    n_outputs : int, C
    n_inputs : int
        D, or D + n_views E with the views of the row, instance embedding last, beside them.
    """

    def __init__(self, frozen: Frozen, n_outputs: int, n_inputs: int) -> None:
        super().__init__()
        self._frozen = (frozen,)  # in a tuple, so that its weights do not become ours
        self.weight = nn.Parameter(torch.zeros(n_outputs, n_inputs))
        self.bias = nn.Parameter(torch.zeros(n_outputs))

    def features(self, states: Tensor, tokens: TokenBatch) -> Tensor:
        """Pooled states: (B, D)."""
        return self._frozen[0].pool(states, tokens)

    def inputs(self, features: Tensor, embedding: Tensor | None) -> Tensor:
        """What the layer reads, (B, n_inputs)."""
        if features.shape[1] == self.weight.shape[1]:
            return features
        return torch.cat([features, embedding], dim=1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs (B, C)."""
        return nn.functional.linear(inputs, self.weight, self.bias)

    @torch.no_grad()
    def start_from(self, weight: Tensor, bias: Tensor) -> None:
        """Begin at a linear model of the last D' inputs: weight (C, D'), bias (C,)."""
        self.weight[:, self.weight.shape[1] - weight.shape[1] :] = weight
        self.bias.copy_(bias)


class VerbalizerHead(nn.Module):
    """The frozen language-model head, read at one token, for one word a class.

    Nothing in it is trained. The token is the mask of a masked language model, or the last
    token of the template for a causal one.

    Parameters
    ----------
    frozen : FrozenModel
    word_ids : list of int, length C
        Token that stands for each class.
    """

    def __init__(self, frozen: FrozenModel, word_ids: list[int]) -> None:
        super().__init__()
        self._frozen = (frozen,)  # in a tuple, so that its weights do not become ours
        self.register_buffer("word_ids", torch.tensor(word_ids), persistent=False)

    def features(self, states: Tensor, tokens: TokenBatch) -> Tensor:
        """The state that the language-model head reads: (B, D)."""
        return states_at(states, tokens.slot)

    def inputs(self, features: Tensor, embedding: Tensor | None) -> Tensor:
        """The state alone."""
        return features

    def forward(self, features: Tensor) -> Tensor:
        """Logits of the label words: (B, C)."""
        logits = self._frozen[0].lm_logits(features.unsqueeze(1)).squeeze(1)  # (B, V)
        return logits[:, self.word_ids.to(logits.device)]
