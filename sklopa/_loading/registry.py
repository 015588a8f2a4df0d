"""One copy of each frozen model in a process, however many estimators use it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any

_loaded: dict[Hashable, Any] = {}
_lock = threading.RLock()


def get_or_load(key: Hashable, load: Callable[[], Any]) -> Any:
    """What is kept under `key`; `load` makes it on first use, in one thread only."""
    with _lock:
        if key not in _loaded:
            _loaded[key] = load()
        return _loaded[key]


def drop(key: Hashable) -> None:
    """Forget what is kept under `key`."""
    with _lock:
        _loaded.pop(key, None)


def drop_all() -> None:
    """Forget everything."""
    with _lock:
        _loaded.clear()
