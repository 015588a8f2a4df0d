"""Gradient checkpointing: layers that keep nothing for the backward pass, and run again in it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from sklopa.errors import UnsupportedBackbone


def recompute_layers(model: nn.Module, n_layers: int, name: str) -> None:
    """Make the layers of `model` keep only their inputs while gradients are wanted.

    Chen et al., *Training Deep Nets with Sublinear Memory Cost*, 2016. Memory for the states of
    one layer then serves all of them, for one more forward pass a step.

    Raises
    ------
    UnsupportedBackbone
        If `model` has no list of `n_layers` layers.
    """
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == n_layers]
    if not lists:
        raise UnsupportedBackbone(
            f"gradient_checkpointing=True cannot be used with {name!r}: it has no plain list of "
            f"{n_layers} layers."
        )
    for layer in (layer for layers in lists for layer in layers):
        kind = type(layer)  # a class, and not a wrapped method: copies of the layer keep it
        layer.__class__ = type(kind.__name__, (_Recomputed, kind), {"__module__": kind.__module__})


class _Recomputed:
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return super().forward(*args, **kwargs)
        return checkpoint(
            super().forward, *args, use_reentrant=False, context_fn=_same_attention, **kwargs
        )


def _same_attention() -> tuple[AbstractContextManager, AbstractContextManager]:
    """Contexts of the first run and of the second, which needs the kernels of the first."""
    plain = not torch.backends.cuda.flash_sdp_enabled()
    return nullcontext(), sdpa_kernel(SDPBackend.MATH) if plain else nullcontext()
