"""`random_state` -> seeds."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import check_random_state


class Seeds(NamedTuple):
    """Seeds of a fit: of the network's start, of the batches, and of the validation split."""

    start: int
    batches: int
    split: int


def draw_seeds(random_state: Any) -> Seeds:
    """Three seeds, which move a generator that is given."""
    drawn = check_random_state(random_state).randint(np.iinfo(np.int32).max, size=3)
    return Seeds(*drawn.tolist())
