"""Where a training stands, and what of a stored state it takes up.

A state comes from a file, so each of its values has a rule, and what breaks one is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sklopa._inputs.rules import BOOLEAN, NONE, NUMBER, SCORE, Rule, integer, list_of, table_of
from sklopa._storage.single_values import refused, shown

State = dict[str, Tensor]

_FALSE = Rule("False", lambda value: value is False)


@dataclass
class History:
    """What happened, one record an epoch."""

    epochs: list[dict[str, float]] = field(default_factory=list)
    best: State | None = None
    best_score: float | None = None
    interrupted: bool = False
    diverged: bool = False


@dataclass
class Course:
    """Where a training stands.

    Attributes
    ----------
    epoch : int, the present one
    done : int, batches done in it
    total, credit : float, sums over them of losses and of what makes the training score
    order : Tensor or None, state of the generator that drew their order
    is_over : bool
    score : float or None, training score of the epoch before
    sums : dict of {name: Tensor} or None, of the weights after the last `n_summed` steps
    """

    epoch: int = 1
    done: int = 0
    total: float = 0.0
    order: Tensor | None = None
    is_over: bool = False
    credit: float = 0.0
    score: float | None = None
    sums: State | None = None
    n_summed: int = 0


class Watch:
    """Counts epochs without an improvement, as `MLPClassifier` does."""

    def __init__(self, patience: int, tol: float) -> None:
        self.patience, self.tol = patience, tol
        self.best, self.count = -np.inf, 0

    def is_over(self, score: float) -> bool:
        self.count = 0 if score > self.best + self.tol else self.count + 1
        self.best = max(self.best, score)
        return self.count >= self.patience


def snapshot(network: nn.Module) -> State:
    """A copy of all trained tensors on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}


# ---------------------------------------------------------------- what is stored


def take_up_parts(
    stored: dict[str, Any], course: Course, history: History, watch: Watch, network: nn.Module
) -> None:
    """Set where a training stands to what was stored of it.

    Raises
    ------
    InvalidArchive
    """
    like = snapshot(network)
    parameters = {name: like[name] for name, _ in network.named_parameters()}
    optional = SCORE | NONE
    rules = {
        "course": {
            "epoch": integer(1), "done": integer(0), "total": NUMBER, "credit": NUMBER,
            "score": optional, "is_over": BOOLEAN, "n_summed": integer(0),
            "order": _like(torch.Generator().get_state()), "sums": _state_like(parameters) | NONE,
        },
        "history": {
            "epochs": list_of(table_of(SCORE)), "best": _state_like(like) | NONE,
            "best_score": optional, "interrupted": _FALSE, "diverged": _FALSE,
        },
        "watch": {
            "patience": integer(0), "tol": NUMBER, "best": SCORE, "count": integer(0),
        },
    }  # fmt: skip
    for name, of_part in rules.items():
        _check_table(name, stored[name], of_part)
    for name, part in (("course", course), ("history", history), ("watch", watch)):
        vars(part).update(stored[name])
    n_epochs, summed = course.epoch - 1, course.sums is not None
    complete = all({"epoch", "loss", "seconds"} <= record.keys() for record in history.epochs)
    if len(history.epochs) != n_epochs or not complete or summed != (course.n_summed > 0):
        raise refused(f"what it tells of its {n_epochs} epochs does not fit together")


def take_up_weights(stored: Any, network: nn.Module) -> None:
    """Load weights that are like those of a network."""
    check("weights", stored, _state_like(snapshot(network)))
    network.load_state_dict(stored)


def take_up_moments(stored: Any, optimizer: torch.optim.Optimizer) -> None:
    """Go on from what AdamW knew of each of its parameters, {index: {name: Tensor}}."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    known = isinstance(stored, dict) and stored.keys() <= set(range(len(parameters)))
    if not known or not all(_fit(of_one, parameters[i]) for i, of_one in stored.items()):
        raise refused("what it keeps to go on from does not fit its weights")
    optimizer.load_state_dict(optimizer.state_dict() | {"state": stored})


def take_up_generators(stored: Any, generators: Sequence[torch.Generator]) -> None:
    """Set generators to states of theirs."""
    if not isinstance(stored, list) or len(stored) != len(generators):
        raise refused(f"it does not have the state of {len(generators)} generators")
    for generator, value in zip(generators, stored, strict=True):
        check("a generator", value, _like(generator.get_state()))
        try:
            generator.set_state(value)
        except RuntimeError as error:  # torch checks what is in it
            raise refused("a generator has a state that is none") from error


def _fit(moments: Any, parameter: Tensor) -> bool:
    """Whether moments are those of a parameter."""
    like = dict.fromkeys(("exp_avg", "exp_avg_sq"), parameter.detach().cpu())
    like["step"] = torch.tensor(0.0)
    return _state_like(like).accepts(moments) and bool(moments["step"] >= 0)


def _check_table(name: str, values: Any, rules: dict[str, Rule]) -> None:
    if not isinstance(values, dict):
        raise refused(f"its {name} is no table")
    for key, value in values.items():
        if key not in rules:
            raise refused(f"its {name} holds {shown(key)}, which it does not have")
        check(f"{key} of its {name}", value, rules[key])


def check(name: str, value: Any, rule: Rule) -> None:
    """Raise an `InvalidArchive` unless a stored value keeps to its rule."""
    if not rule.accepts(value):
        raise refused(f"{name} must be {rule.allowed}; it is {shown(value)}")


def _like(tensor: Tensor) -> Rule:
    shape, dtype = tensor.shape, tensor.dtype
    return Rule(
        f"a tensor of shape {tuple(shape)} and {dtype}",
        lambda value: torch.is_tensor(value) and value.shape == shape and value.dtype == dtype,
    )


def _state_like(state: State) -> Rule:
    rules = {name: _like(value) for name, value in state.items()}
    return Rule(
        "tensors like those of the network",
        lambda value: (
            isinstance(value, dict)
            and value.keys() == rules.keys()
            and all(rules[name].accepts(item) for name, item in value.items())
        ),
    )
