"""Prompt rows at the input of layers: put between rows, or in the place of the prompt's states.

A deep prompt replaces the prompt's states at the input of each later layer. A vision tower
embeds pixels itself, so there the rows of the first layer enter here as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sklopa.errors import UnsupportedBackbone


class _Rows(NamedTuple):
    """What the hooks of this thread put in, from `start` (B,) on."""

    later: Tensor | None  # (B, L - 1, P, D), in the place of the states there
    start: Tensor
    length: int | None  # of the whole input; a step of cached decoding is shorter and left alone
    first: Tensor | None = None  # (B, P, D), between the rows of the first layer's input

    def changed(self, layer: int, states: Tensor) -> Tensor | None:
        """The input (B, T, D) of a layer with rows put in; None for no change."""
        if layer == 0:
            return None if self.first is None else _insert(states, self.first, int(self.start[0]))
        if self.later is None or (self.length or states.shape[1]) != states.shape[1]:
            return None
        return _put(states, self.later[:, layer - 1], self.start)


# Hooks stay on the layers; what they do is told here, so that threads do not see each other's.
_ROWS: ContextVar[_Rows | None] = ContextVar("sklopa_deep_rows", default=None)


def hook_layers(base: nn.Module, n_layers: int, name: str) -> None:
    """Make the layers of `base` open to rows. More than once is no harm.

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
    for i, layer in enumerate(lists[0]):
        layer.register_forward_pre_hook(_changing(i), with_kwargs=True)
    lists[0]._sklopa_hooked = True


def make_room(bias: nn.Module) -> None:
    """Let a bias between rows, (..., T, T), be zero for rows that `prompt_rows` puts in."""

    def hook(module: nn.Module, args: tuple, out: Tensor) -> Tensor | None:
        rows = _ROWS.get()
        if rows is None or rows.first is None:
            return None
        at, n = int(rows.start[0]), rows.first.shape[1]
        for dim in (-1, -2):
            before, behind = out.split([at, out.shape[dim] - at], dim=dim)
            nothing = torch.zeros_like(out.narrow(dim, 0, 1)).repeat_interleave(n, dim=dim)
            out = torch.cat([before, nothing, behind], dim=dim)
        return out

    if not getattr(bias, "_sklopa_hooked", False):
        bias.register_forward_hook(hook)
        bias._sklopa_hooked = True


@contextmanager
def deep_rows(values: Tensor | None, start: Tensor, length: int) -> Iterator[None]:
    """Within this context, and this thread, hooked layers read `values` as their prompt rows.

    Parameters
    ----------
    values : Tensor of shape (B, L - 1, P, D), or None for no change
    start : Tensor of shape (B,), index of the first prompt row
    length : int, rows of the whole input
    """
    with _told(None if values is None else _Rows(values, start, length)):
        yield


@contextmanager
def prompt_rows(prompt: Tensor | None, start: int) -> Iterator[None]:
    """Within this context, and this thread, hooked layers read rows that the input has not.

    Parameters
    ----------
    prompt : Tensor of shape (B, P, D), or (B, L, P, D) for all layers, or None for no change
    start : int, rows of the input that stand in front of the prompt
    """
    if prompt is None:
        rows = None
    else:
        first, later = (prompt, None) if prompt.ndim == 3 else (prompt[:, 0], prompt[:, 1:])
        where = torch.full((len(prompt),), start, device=prompt.device)
        rows = _Rows(later, where, None, first)
    with _told(rows):
        yield


@contextmanager
def _told(rows: _Rows | None) -> Iterator[None]:
    token = _ROWS.set(rows)
    try:
        yield
    finally:
        _ROWS.reset(token)


def _changing(i: int) -> Any:
    def hook(layer: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        rows = _ROWS.get()
        states = args[0] if args else kwargs["hidden_states"]
        changed = None if rows is None else rows.changed(i, states)
        if changed is None:
            return None
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


def _insert(states: Tensor, values: Tensor, at: int) -> Tensor:
    """States (B, T + P, D): `values` (B, P, D) stand between rows of states (B, T, D)."""
    return torch.cat([states[:, :at], values.to(states.dtype), states[:, at:]], dim=1)
