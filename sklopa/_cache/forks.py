"""A forked child has one thread: locks that another thread of its parent held stay held in it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable


def after_fork(renew: Callable[[], object]) -> None:
    """Have `renew` called in each forked child, before anything else runs there."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=renew)


def _use_one_thread() -> None:
    """Threads that torch computed with are not there in a child, and would be waited for."""
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "set_num_threads"):
        torch.set_num_threads(1)


after_fork(_use_one_thread)
