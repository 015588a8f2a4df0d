"""One copy of each frozen model in a process, however many estimators use it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any
from weakref import WeakValueDictionary

from sklopa._cache.forks import after_fork

_loaded: dict[Hashable, Any] = {}
# What was dropped and somebody still holds: it is taken up again before a second copy is made.
_held: WeakValueDictionary[Hashable, Any] = WeakValueDictionary()
_lock = threading.RLock()


def get_or_load(
    key: Hashable, load: Callable[[], Any], is_as_before: Callable[[Any], bool] = lambda kept: True
) -> Any:
    """What is kept under `key`; `load` makes it on first use, in one thread only.

    Parameters
    ----------
    is_as_before : callable
        Whether what was dropped, and is still held elsewhere, is what `load` would make now.
    """
    with _lock:
        if key not in _loaded:
            held = _held.get(key)
            _loaded[key] = held if held is not None and is_as_before(held) else load()
            _held[key] = _loaded[key]
        return _loaded[key]


def drop(key: Hashable) -> None:
    """Forget what is kept under `key`."""
    with _lock:
        _loaded.pop(key, None)


def drop_all() -> None:
    """Forget everything."""
    with _lock:
        _loaded.clear()


def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()


after_fork(_renew_lock)
