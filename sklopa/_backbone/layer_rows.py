"""Prompt rows at the input of layers: put between rows, or in the place of the prompt's states.

A deep prompt replaces the prompt's states at the input of each later layer. A vision tower
embeds pixels itself, so there the rows of the first layer enter here as well. A prompt that joins
a later layer comes there with the states of the row, and the layers below are left out.

Hooks are on the layers only while rows are put in, and act in the thread that put them there: a
model that several threads run, or that belongs to a user, is found as it was.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from threading import get_ident
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class _Rows(NamedTuple):
    """What enters at the layers, from row `start` (B,) on."""

    later: Tensor | None  # (B, L - 1, P, D), in the place of the states there
    start: Tensor
    length: int | None  # of the whole input; a step of cached decoding is shorter and left alone
    first: Tensor | None = None  # (B, P, D), between the rows of the first layer's input
    at: int = 0  # layer at which the prompt enters
    whole: Tensor | None = None  # (B, P + T, D), all that this layer is to read

    def changed(self, layer: int, states: Tensor) -> Tensor | None:
        """The input (B, T, D) of a layer with rows put in; None for no change."""
        if layer == self.at and self.whole is not None:
            padding = states[:, self.whole.shape[1] :]  # some models fill up to a window
            return torch.cat([self.whole.to(states.dtype), padding], dim=1)
        if layer == 0:
            return None if self.first is None else _insert(states, self.first, int(self.start[0]))
        if layer <= self.at or self.later is None:
            return None
        if (self.length or states.shape[1]) != states.shape[1]:
            return None
        return _put(states, self.later[:, layer - self.at - 1], self.start)


# A thread that runs a layer while another takes its hook away calls that hook without keywords.
_NONE_GIVEN: dict = {}
_ROWS: ContextVar[_Rows | None] = ContextVar("sklopa_layer_rows", default=None)


@contextmanager
def deep_rows(
    layers: Iterable[nn.Module], values: Tensor | None, start: Tensor, length: int
) -> Iterator[None]:
    """Within this context, and this thread, layers read `values` as their prompt rows.

    Parameters
    ----------
    layers : the layers of a model, in their order
    values : Tensor of shape (B, L - 1, P, D), or None for no change
    start : Tensor of shape (B,), index of the first prompt row
    length : int, rows of the whole input
    """
    rows = None if values is None else _Rows(values, start, length)
    with _entering(rows, layers):
        yield


@contextmanager
def prompt_rows(
    layers: Iterable[nn.Module], prompt: Tensor | None, start: int, biases: Iterable[nn.Module] = ()
) -> Iterator[None]:
    """Within this context, and this thread, layers read rows that the input has not.

    Parameters
    ----------
    layers : the layers of a model, in their order
    prompt : Tensor of shape (B, P, D), or (B, L, P, D) for all layers, or None for no change
    start : int, rows of the input that stand in front of the prompt
    biases : modules whose output, a bias between rows (..., T, T), is zero for rows put in
    """
    if prompt is None:
        rows = None
    else:
        first, later = (prompt, None) if prompt.ndim == 3 else (prompt[:, 0], prompt[:, 1:])
        where = torch.full((prompt.shape[0],), start, dtype=torch.int64, device=prompt.device)
        rows = _Rows(later, where, None, first)
    with _entering(rows, layers, biases):
        yield


@contextmanager
def states_at(
    layers: Iterable[nn.Module],
    layer: int,
    whole: Tensor,
    later: Tensor | None,
    start: Tensor,
    biases: Iterable[nn.Module] = (),
    n_added: int = 0,
) -> Iterator[None]:
    """Within this context, and this thread, one layer reads `whole`, whatever is below it.

    Parameters
    ----------
    layers : the layers of a model, in their order
    layer : int, the one that reads `whole`
    whole : Tensor of shape (B, P + T, D), states with the prompt among them
    later : Tensor of shape (B, L - layer - 1, P, D), prompt rows of the layers behind, or None
    start : Tensor of shape (B,), index of the first prompt row
    biases : as in `prompt_rows`, where `n_added` rows have no place
    """
    first = whole[:, :n_added] if n_added else None
    rows = _Rows(later, start, whole.shape[1], first, layer, whole)
    with _entering(rows, layers, biases):
        yield


class _Reached(BaseException):
    """A layer was reached; carries what it was to read. Not an error that a model may catch."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self.states = states


def states_entering(layer: nn.Module, run: Callable[[], Any]) -> Tensor:
    """What `layer` reads (B, T, D) when `run` is called, which goes no further."""
    thread = get_ident()

    def hook(module: nn.Module, args: tuple, kwargs: dict = _NONE_GIVEN) -> None:
        if get_ident() == thread:
            raise _Reached(args[0] if args else kwargs["hidden_states"])

    handle = layer.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        run()
    except _Reached as reached:
        return reached.states
    finally:
        handle.remove()
    raise RuntimeError(f"{type(layer).__name__} is not run")  # it is one of the model's layers


def without_layers(base: nn.Module, path: str, n: int, n_returned: int | None) -> nn.Module:
    """A model that runs as `base` does, without its first `n` layers. It owns no module.

    Parameters
    ----------
    path : str, where the list of layers is within `base`
    n_returned : int or None
        Values that a layer returns, the states first; None for the states alone.
    """
    shell, (name, _, rest) = copy.copy(base), path.partition(".")
    shell._modules = dict(base._modules)
    part = base._modules[name]
    assert part is not None  # `path` was found before
    if rest:
        shell._modules[name] = without_layers(part, rest, n, n_returned)
    else:
        layers = list(part.children())
        shell._modules[name] = nn.ModuleList(
            [*(_LeftOut(layer, n_returned) for layer in layers[:n]), *layers[n:]]
        )
    return shell


class _LeftOut(nn.Module):
    """Stands in for a layer: hands on what it reads, and is asked for all else that it has."""

    def __init__(self, layer: nn.Module, n_returned: int | None) -> None:
        super().__init__()
        self.__dict__["layer"] = layer  # held, not owned
        self.n_returned = n_returned

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        states = args[0] if args else kwargs["hidden_states"]
        return states if self.n_returned is None else (states, *[None] * (self.n_returned - 1))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["layer"], name)


@contextmanager
def _entering(
    rows: _Rows | None, layers: Iterable[nn.Module], biases: Iterable[nn.Module] = ()
) -> Iterator[None]:
    with ExitStack() as stack:
        token = _ROWS.set(rows)
        stack.callback(_ROWS.reset, token)
        if rows is not None:
            for i, layer in enumerate(layers):
                hook = layer.register_forward_pre_hook(_changing(i, rows), with_kwargs=True)
                stack.callback(hook.remove)
            for bias in biases:
                stack.callback(bias.register_forward_hook(_making_room(rows)).remove)
        yield


def _changing(i: int, rows: _Rows) -> Any:
    def hook(
        layer: nn.Module, args: tuple, kwargs: dict = _NONE_GIVEN
    ) -> tuple[tuple, dict] | None:
        if _ROWS.get() is not rows:
            return None
        changed = rows.changed(i, args[0] if args else kwargs["hidden_states"])
        if changed is None:
            return None
        if args:
            return (changed, *args[1:]), kwargs
        return args, kwargs | {"hidden_states": changed}

    return hook


def _making_room(rows: _Rows) -> Any:
    def hook(module: nn.Module, args: tuple, out: Tensor) -> Tensor | None:
        if _ROWS.get() is not rows or rows.first is None:
            return None
        at, n = int(rows.start[0]), rows.first.shape[1]
        for dim in (out.ndim - 1, out.ndim - 2):
            before, behind = out.split([at, out.shape[dim] - at], dim=dim)
            nothing = torch.zeros_like(out.narrow(dim, 0, 1)).repeat_interleave(n, dim=dim)
            out = torch.cat([before, nothing, behind], dim=dim)
        return out

    return hook


def _put(states: Tensor, values: Tensor, start: Tensor) -> Tensor:
    """States (B, T, D) with `values` (B, P, D) in place of rows from `start` on."""
    copies = states.shape[0] // values.shape[0]  # beams of one row stand next to each other
    values, start = (x.repeat_interleave(copies, dim=0) for x in (values, start))
    rows = torch.arange(states.shape[0], device=states.device).unsqueeze(1)
    columns = start.unsqueeze(1) + torch.arange(values.shape[1], device=states.device)
    return states.index_put((rows, columns), values.to(states.dtype))


def _insert(states: Tensor, values: Tensor, at: int) -> Tensor:
    """States (B, T + P, D): `values` (B, P, D) stand between rows of states (B, T, D)."""
    return torch.cat([states[:, :at], values.to(states.dtype), states[:, at:]], dim=1)
