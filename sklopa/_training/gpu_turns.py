"""Workers of a search that share one GPU take turns at it."""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sklopa._storage.lock import held_by_user
from sklopa.errors import SharedDeviceWarning

_warned = False


@contextmanager
def turn_on(device: torch.device) -> Iterator[None]:
    """Within this context, an epoch, no other worker of this user trains on the same GPU.

    Several at once would each hold their own activations and gain no time. On CPUs, and outside of
    worker processes, nothing happens.
    """
    if device.type == "cpu" or multiprocessing.current_process().name == "MainProcess":
        yield
        return
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"Workers of n_jobs > 1 share {device}, so they train in turns. n_jobs=1 is as fast "
            "and holds one copy of the model.",
            SharedDeviceWarning,
            stacklevel=3,
        )
    with held_by_user(f"{device.type}{device.index or 0}"):
        yield
