"""Public classes say where users find them, whatever file they stand in."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TypeVar

Kind = TypeVar("Kind", bound=type)


def public(module: str) -> Callable[[Kind], Kind]:
    """Let a class call itself a member of `module`: in pickles, reprs and documentation.

    What it has from private bases counts as its own, so that a reference shows it there.
    """

    def name(kind: Kind) -> Kind:
        # Types of attributes are names in the file of the class: looked up before it moves.
        kind.__annotations__ = inspect.get_annotations(kind, eval_str=True)
        kind.__module__ = module
        for base in kind.__mro__:
            for method, value in list(vars(base).items()):
                if inspect.isfunction(value) and _is_shown(base, method):
                    setattr(kind, method, getattr(kind, method))
        return kind

    return name


def _is_shown(base: type, method: str) -> bool:
    """Whether a method is public, and its class is not."""
    return base.__module__.startswith("sklopa._") and not method.startswith("_")
