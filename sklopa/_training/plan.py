"""How to train: epochs, batches, and the learning rates of the parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# Learning rates of the parts, as multiples of `learning_rate`. The task prompt is a handful of
# vectors that must travel far; its rate is counted in the size of its own values at the start. The
# networks have most of the values and fit single rows first, so beside a task prompt they are slow.
RATE_OF = {"task": 300.0, "head": 1.0, "encoder": 0.02, "networks": 0.3, "only networks": 1.0}


@dataclass(frozen=True)
class Plan:
    """How to train.

    Attributes
    ----------
    max_iter : int, epochs
    batch_size : int, rows a step
    learning_rate : float
        Of the instance networks; `rate_of` scales it for the other parts.
    weight_decay : float
    n_iter_no_change, tol
        Stop after this many epochs in a row without an improvement of at least `tol`.
    warmup : float
        Share of all steps over which the rate rises from zero (ten steps at least, in fits that
        have twenty); it then falls to zero.
    schedule : {"linear", "constant"}
        "constant": the rate rises over ten steps (or one epoch) and stays, and each epoch ends with
        the mean of the weights of its second half. Nothing then depends on `max_iter`.
    """

    max_iter: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 0.0
    n_iter_no_change: int = 5
    tol: float = 1e-4
    warmup: float = 0.1
    schedule: str = "linear"

    @property
    def is_constant(self) -> bool:
        return self.schedule == "constant"


def optimizer_groups(network: Any, learning_rate: float) -> list[dict[str, Any]]:
    """The parameters of a network by the part that they belong to, each part with its rate.

    Parameters
    ----------
    network : nn.Module with `parameter_groups`
        Yields (name of a part, unit in which its rate is counted, parameters).
    learning_rate : float
    """
    groups: dict[tuple[str, float], list] = {}
    for name, unit, parameters in network.parameter_groups():
        groups.setdefault((name, unit), []).extend(parameters)
    return [
        {"params": members, "lr": learning_rate * RATE_OF[name] * unit, "name": name}
        for (name, unit), members in groups.items()
    ]
