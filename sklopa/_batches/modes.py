"""What surrounds a run of ours: modes of torch that its caller is in, and models of the caller's.

Results depend on neither, and both are found as they were.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, Protocol, TypeVar

from sklopa._cache.forks import after_fork

Function = TypeVar("Function", bound=Callable[..., Any])


class Guest(Protocol):
    """A model of the caller's, which runs as a frozen one while our code runs."""

    def rest(self) -> None:
        """Switch dropout and gradients off, and remember where they were on."""

    def wake(self) -> None:
        """Switch them on again."""


class _Guests:
    """Models of callers that are in use, at rest as long as any thread runs code of ours."""

    def __init__(self) -> None:
        self.start_anew()

    def start_anew(self) -> None:
        """Begin with nobody."""
        self._lock, self._n_runs = threading.Lock(), 0
        self._here: list[Guest] = []

    def use(self, guest: Guest) -> None:
        """Have a model at rest until the last of the present runs ends."""
        with self._lock:
            if self._n_runs and not any(guest is known for known in self._here):
                guest.rest()
                self._here.append(guest)

    def enter(self) -> None:
        with self._lock:
            self._n_runs += 1

    def leave(self) -> None:
        with self._lock:
            self._n_runs = max(0, self._n_runs - 1)  # a forked child begins with none
            while self._here and self._n_runs == 0:
                self._here.pop().wake()


class _Here(threading.local):
    """Runs within runs in this thread, and the number of the outermost one."""

    depth = 0
    number = 0


GUESTS = _Guests()
_here = _Here()
_numbers = itertools.count(1)
after_fork(GUESTS.start_anew)


def run_number() -> int:
    """Of the outermost run that this thread is in; 0 outside of any."""
    return _here.number


@contextmanager
def own_modes() -> Iterator[None]:
    """Within this context nothing is left of `no_grad`, `inference_mode`, `autocast` around it.

    These belong to a thread, as does the device on which tensors are made; so nothing changes for
    other threads. The default dtype does not: tensors that we make have theirs by name.
    """
    import torch

    with ExitStack() as stack:
        if _here.depth == 0:
            _here.number = next(_numbers)
            GUESTS.enter()
            stack.callback(_end_of_run)
        _here.depth += 1
        stack.callback(_leave)
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        if not torch.is_grad_enabled():
            stack.enter_context(torch.enable_grad())
        for kind in _kinds():
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield


def _leave() -> None:
    _here.depth -= 1


def _end_of_run() -> None:
    _here.number = 0
    GUESTS.leave()


def in_own_modes(function: Function) -> Function:
    """`function`, which runs alike whatever modes of torch its caller is in."""

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        with own_modes():
            return function(*args, **kwargs)

    return run  # type: ignore[return-value]


def _kinds() -> list[str]:
    import torch

    if torch.cuda.is_available():
        return ["cpu", "cuda"]
    return ["cpu", "mps"] if torch.backends.mps.is_available() else ["cpu"]
