"""Gradient checkpointing: layers that keep nothing for the backward pass, and run again in it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from sklopa._backbone.attention import PlainAttention, is_plain


def recompute_layers(layers: Iterable[nn.Module]) -> None:
    """Make layers keep only their inputs while gradients are wanted.

    Chen et al., *Training Deep Nets with Sublinear Memory Cost*, 2016. Memory for the states of
    one layer then serves all of them, for one more forward pass a step. What transformers has for
    this needs a model in training mode, where dropout is on as well.

    Only for models that were loaded here: the class of each layer is replaced.
    """
    for layer in layers:
        kind = type(layer)  # a class, and not a wrapped method: copies of the layer keep it
        layer.__class__ = type(kind.__name__, (_Recomputed, kind), {"__module__": kind.__module__})


class _Recomputed:
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        run = super().forward  # type: ignore[misc]  # that of the layer's own class
        if not torch.is_grad_enabled():
            return run(*args, **kwargs)
        return checkpoint(run, *args, use_reentrant=False, context_fn=_same_attention, **kwargs)


def _same_attention() -> tuple[AbstractContextManager, AbstractContextManager]:
    """Contexts of the first run and of the second, which needs the kernels of the first."""
    return nullcontext(), PlainAttention() if is_plain() else nullcontext()
