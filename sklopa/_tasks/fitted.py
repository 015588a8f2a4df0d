"""A fitted task: all that a server, or a batch of many tasks, needs to predict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sklopa._network.fitted import FittedNetwork
from sklopa._tasks.interface import Task


@dataclass(frozen=True)
class FittedTask:
    """What was learned, and how rows are read for it.

    Attributes
    ----------
    owner : str, class of the estimator, for messages
    reads : {"texts", "images"}
    network : FittedNetwork
    task : Task
    dtype : str, precision of the frozen model at fit
    read : callable
        X as users give it -> rows, checked against those that were fitted on.
    memory : path or None
        Folder that keeps instance embeddings.
    random_state : int, RandomState or None
        Where random texts come from.
    """

    owner: str
    reads: str
    network: FittedNetwork
    task: Task
    dtype: str
    read: Callable[[Any], Any]
    memory: Any = None
    random_state: Any = None
