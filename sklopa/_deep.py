"""Deep prompts: rows that replace the prompt's states at the input of each later layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sklopa.errors import UnsupportedBackbone


class _Rows(NamedTuple):
    """What the hooks of this thread put in: values (B, L - 1, P, D), from `start` (B,) on."""

    values: Tensor
    start: Tensor
    length: int  # of the whole input; a step of cached decoding is shorter and left alone


# Hooks stay on the layers; what they do is told here, so that threads do not see each other's.
_ROWS: ContextVar[_Rows | None] = ContextVar("sklopa_deep_rows", default=None)


def hook_layers(base: nn.Module, n_layers: int, name: str) -> None:
    """Make all layers but the first of `base` open to `deep_rows`. More than once is no harm.

    Raises
    ------
    UnsupportedBackbone
        If `base` is not one list of layers that are run one after the other.
    """
    lists = [m for m in base.modules() if isinstance(m, nn.ModuleList) and len(m) == n_layers]
    if not lists:
        raise UnsupportedBackbone(
            f"depth='deep' cannot be used with {name!r}: it has no plain list of {n_layers} "
            "layers, each with weights of its own. Use depth='shallow'."
        )
    if getattr(lists[0], "_sklopa_hooked", False):
        return
    for i, layer in enumerate(lists[0][1:]):
        layer.register_forward_pre_hook(_replacing(i), with_kwargs=True)
    lists[0]._sklopa_hooked = True


@contextmanager
def deep_rows(values: Tensor | None, start: Tensor, length: int) -> Iterator[None]:
    """Within this context, and this thread, hooked layers read `values` as their prompt rows.

    Parameters
    ----------
    values : Tensor of shape (B, L - 1, P, D), or None for no change
    start : Tensor of shape (B,), index of the first prompt row
    length : int, rows of the whole input
    """
    token = _ROWS.set(None if values is None else _Rows(values, start, length))
    try:
        yield
    finally:
        _ROWS.reset(token)


def _replacing(i: int) -> Any:
    def hook(layer: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        rows = _ROWS.get()
        states = args[0] if args else kwargs["hidden_states"]
        if rows is None or states.shape[1] != rows.length:
            return None
        changed = _put(states, rows.values[:, i], rows.start)
        if args:
            return (changed, *args[1:]), kwargs
        return args, kwargs | {"hidden_states": changed}

    return hook


def _put(states: Tensor, values: Tensor, start: Tensor) -> Tensor:
    """States (B, T, D) with `values` (B, P, D) in place of rows from `start` on."""
    copies = len(states) // len(values)  # beams of one row stand next to each other
    values, start = (x.repeat_interleave(copies, dim=0) for x in (values, start))
    rows = torch.arange(len(states), device=states.device).unsqueeze(1)
    columns = start.unsqueeze(1) + torch.arange(values.shape[1], device=states.device)
    return states.index_put((rows, columns), values.to(states.dtype))
