"""States of the frozen backbone -> outputs: which positions are read, and how."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sklopa._batch import TokenBatch
from sklopa._frozen import FrozenModel


def pool(states: Tensor, tokens: TokenBatch, prompt_length: int, pooling: str) -> Tensor:
    """One vector (B, D) for each text, from states (B, P + T, D).

    Reads by the attention mask and past the prompt, so that neither a prompt row nor padding
    is ever taken for a token.
    """
    text = states[:, prompt_length:]  # (B, T, D)
    if pooling == "first":
        return text[:, 0]
    if pooling == "last":
        return _at(text, tokens.mask.sum(dim=1) - 1)
    mask = tokens.mask.unsqueeze(-1).to(text.dtype)
    return (text * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def _at(states: Tensor, position: Tensor) -> Tensor:
    rows = torch.arange(len(states), device=states.device)
    return states[rows, position]  # (B, D)


class LinearHead(nn.Module):
    """A trained linear layer on pooled states.

    Parameters
    ----------
    width : int, D
    n_outputs : int, C
    pooling : {"mean", "first", "last"}
    """

    def __init__(self, width: int, n_outputs: int, pooling: str) -> None:
        super().__init__()
        self.pooling = pooling
        self.weight = nn.Parameter(torch.zeros(n_outputs, width))
        self.bias = nn.Parameter(torch.zeros(n_outputs))

    def features(self, states: Tensor, tokens: TokenBatch, prompt_length: int) -> Tensor:
        """What the layer reads: (B, D)."""
        return pool(states, tokens, prompt_length, self.pooling)

    def forward(self, features: Tensor) -> Tensor:
        """Outputs (B, C)."""
        return nn.functional.linear(features, self.weight, self.bias)

    @torch.no_grad()
    def start_from(self, weight: Tensor, bias: Tensor) -> None:
        """Begin at a solved linear model: weight (C, D), bias (C,)."""
        self.weight.copy_(weight)
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

    def features(self, states: Tensor, tokens: TokenBatch, prompt_length: int) -> Tensor:
        """The state that the language-model head reads: (B, D)."""
        return _at(states, tokens.slot + prompt_length)

    def forward(self, features: Tensor) -> Tensor:
        """Logits of the label words: (B, C)."""
        logits = self._frozen[0].lm_logits(features.unsqueeze(1)).squeeze(1)  # (B, V)
        return logits[:, self.word_ids.to(logits.device)]
