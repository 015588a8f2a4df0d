"""Public classes say where users find them, whatever file they stand in."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Kind = TypeVar("Kind", bound=type)


def public(module: str) -> Callable[[Kind], Kind]:
    """Let a class call itself a member of `module`: in pickles, reprs and documentation."""

    def name(kind: Kind) -> Kind:
        kind.__module__ = module
        return kind

    return name
