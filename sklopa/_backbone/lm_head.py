"""The language-model head of a frozen model, and the tokens that begin and end a text."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn


def head_logits(model: nn.Module, body: nn.Module, states: Tensor) -> Tensor:
    """Vocabulary logits (B, K, V) of states (B, K, D), by the head that `model` has on `body`."""
    shell = copy.copy(model)  # the same weights, with the body taken out
    shell._modules = dict(model._modules)
    name = next(n for n, part in model.named_children() if part is body)
    shell._modules[name] = _PassThrough()
    return shell(inputs_embeds=states).logits


class _PassThrough(nn.Module):
    """Stands in for the body of a language model and hands its input to the head."""

    @property
    def decoder(self) -> _PassThrough:
        """Itself: some language models call the inner part of their body."""
        return self

    def forward(self, *args: Any, inputs_embeds: Tensor, **kwargs: Any) -> _OnlyStates:
        return _OnlyStates(inputs_embeds)


class _OnlyStates:
    """What a body returns, reduced to its last states; all else that a head may ask for is None."""

    def __init__(self, states: Tensor) -> None:
        self.last_hidden_state = states

    def __getattr__(self, name: str) -> None:
        return None

    def __getitem__(self, index: int | slice) -> Any:
        return (self.last_hidden_state,)[index]


def end_ids(frozen: Any) -> list[int]:
    """Tokens that end a text: the tokenizer's, and those of the model's own settings."""
    found = [getattr(frozen.tokenizer, "eos_token_id", None)]
    for config in (getattr(frozen.model, "generation_config", None), frozen.config):
        ids = getattr(config, "eos_token_id", None)
        found += ids if isinstance(ids, list) else [ids]
    return sorted({token for token in found if token is not None})


def start_id(frozen: Any) -> int | None:
    """Token that the decoder of an encoder-decoder begins with; None for other models."""
    configs = (getattr(frozen.model, "generation_config", None), frozen.config)
    found = [getattr(config, "decoder_start_token_id", None) for config in configs]
    return next((token for token in found if token is not None), None)
