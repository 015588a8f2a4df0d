"""How many threads torch works with: no more than there are CPUs for, and left as found.

Threads that share a matrix product wait for the slowest of them at its end, many times a step.
Where there are fewer CPUs for them than torch believes (a container's quota, an affinity mask) or
where other programs have the CPUs, a step takes many times as long as with a single thread.

Which rule is right depends on what is asked for. Sums in floating point depend on how they are cut
into parts, and parts are cut by threads: a batch of six rows, for one, has other last digits with
two threads than with one. So a fit with a `random_state`, which promises the same bits on the same
machine, may not choose by the load or by a clock of that moment. It takes the CPUs that the process
may use, by affinity and quota, and a warning says so where one thread would be faster. Without a
`random_state` nothing of the kind is promised, and the faster of one thread and all is taken.
Predictions keep to the rule of their estimator.

Who knows better sets the environment variable ``SKLOPA_NUM_THREADS``; it is taken as it is.
"""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import joblib
import torch

from sklopa._cache.forks import after_fork
from sklopa.errors import BusyMachineWarning, InvalidParameter

VARIABLE = "SKLOPA_NUM_THREADS"
# A measurement holds this long, so that a search does not measure for each of its fits.
_HOLDS_S = 30.0
# Fewer rows are predicted faster than it is measured how.
_WORTH_MEASURING = 256
# How many times as fast one thread must be to be taken, and to be spoken of where it is not.
_TAKEN, _TOLD = 1.2, 2.0

_lock = threading.Lock()
_n_users, _found = 0, 1
_measured_at, _gain = float("-inf"), 1.0
_told = False


def _start_anew() -> None:
    """Begin with no user: those of a parent are not in its child."""
    global _lock, _n_users
    _lock, _n_users = threading.Lock(), 0


after_fork(_start_anew)


@contextmanager
def threads(random_state: Any, n_rows: int | None = None) -> Iterator[None]:
    """Within this context torch works with as many threads as serve it here.

    Parameters
    ----------
    random_state : int, RandomState or None
        Of the estimator; see the module.
    n_rows : int or None
        Rows to predict; None for a fit.

    Raises
    ------
    InvalidParameter
        If ``SKLOPA_NUM_THREADS`` is no number of threads.
    """
    global _n_users, _found
    must_repeat = random_state is not None
    with _lock:  # the number is that of the process, so fits at the same time share it
        _found = _found if _n_users else torch.get_num_threads()
        if must_repeat or not _n_users:
            torch.set_num_threads(_choose(_found, must_repeat, n_rows))
        _n_users += 1
    try:
        yield
    finally:
        with _lock:
            _n_users = max(0, _n_users - 1)  # a forked child begins with none
            if _n_users == 0:
                torch.set_num_threads(_found)


def _choose(found: int, must_repeat: bool, n_rows: int | None) -> int:
    global _told
    if asked := os.environ.get(VARIABLE):
        return _as_number(asked)
    usable = min(found, joblib.cpu_count())
    if usable == 1:
        return 1
    gain = _gain_of_one(usable, may_measure=n_rows is None or n_rows >= _WORTH_MEASURING)
    if gain < _TAKEN:
        return usable
    if not must_repeat:
        return 1
    if gain >= _TOLD and n_rows is None and not _told:
        _told = True
        warnings.warn(
            f"The CPUs are busy: {usable} threads wait for each other, and one would be about "
            f"{gain:.0f} times as fast. With a random_state the number stays, since the last "
            f"digits depend on it. Set the environment variable {VARIABLE}=1, or "
            "random_state=None, to be faster now.",
            BusyMachineWarning,
            stacklevel=5,
        )
    return usable


def _as_number(asked: str) -> int:
    if not asked.isdecimal() or int(asked) < 1:
        raise InvalidParameter(
            f"The environment variable {VARIABLE} must be an integer >= 1; it is {asked!r}"
        )
    return int(asked)


def _gain_of_one(n_threads: int, *, may_measure: bool) -> float:
    """How many times as fast one thread is as `n_threads` at this moment, or was a moment ago."""
    global _measured_at, _gain
    is_old = time.monotonic() - _measured_at > _HOLDS_S
    if is_old and may_measure:
        _gain = _seconds(n_threads) / _seconds(1)
        _measured_at = time.monotonic()
    return 1.0 if is_old and not may_measure else _gain


def _seconds(n_threads: int) -> float:
    """What a piece of work like that of a small model takes."""
    torch.set_num_threads(n_threads)
    states, weights = torch.ones(320, 384), torch.full((384, 384), 1e-3)
    with torch.no_grad():
        for n_layers in (2, 20):  # the first ones wake the threads
            started = time.perf_counter()
            for _ in range(n_layers):
                states = torch.nn.functional.gelu(states @ weights)
    return time.perf_counter() - started
