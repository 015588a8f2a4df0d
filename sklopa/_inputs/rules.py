"""Constructor parameters against one table of rules; all problems reported at once."""

from __future__ import annotations

import numbers
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sklopa.errors import InvalidParameter


@dataclass(frozen=True)
class Rule:
    """What a parameter may be: a sentence for people and a test for the machine."""

    allowed: str
    accepts: Callable[[Any], bool]

    def __or__(self, other: Rule) -> Rule:
        return Rule(
            f"{self.allowed} or {other.allowed}",
            lambda value: self.accepts(value) or other.accepts(value),
        )


def _is_integer(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, (bool, np.bool_))


def _is_real(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_))


def integer(minimum: int) -> Rule:
    """An integer from `minimum` up."""
    return Rule(f"an integer >= {minimum}", lambda value: _is_integer(value) and value >= minimum)


def real(
    low: float, high: float = np.inf, *, open_low: bool = False, open_high: bool = True
) -> Rule:
    """A number between two bounds."""
    left, right = "(" if open_low else "[", ")" if open_high else "]"

    def accepts(value: Any) -> bool:
        if not _is_real(value) or not np.isfinite(value):
            return False
        above = value > low if open_low else value >= low
        return bool(above and (value < high if open_high else value <= high))

    return Rule(f"a number in {left}{low}, {high}{right}", accepts)


def one_of(*options: Any) -> Rule:
    """One of a few values."""
    text = ", ".join(repr(option) for option in options)
    return Rule(
        f"one of {text}" if len(options) > 1 else text,
        lambda value: isinstance(value, str) and value in options,
    )


def instance_of(*kinds: type, named: str) -> Rule:
    """An object of one of some classes."""
    return Rule(named, lambda value: isinstance(value, kinds))


BOOLEAN = instance_of(bool, np.bool_, named="True or False")
NONE = Rule("None", lambda value: value is None)
PATH = instance_of(str, os.PathLike, named="a path")
RANDOM_STATE = integer(0) | instance_of(np.random.RandomState, named="a numpy RandomState") | NONE


# What a fitted estimator holds.
TEXT = instance_of(str, named="a text")
NUMBER = real(-np.inf)
VECTOR = Rule(
    "a vector of finite numbers",
    lambda value: (
        isinstance(value, np.ndarray)
        and value.ndim == 1
        and value.dtype.kind == "f"
        and bool(np.isfinite(value).all())
    ),
)
COLUMN = Rule(
    "an array of one dimension",
    lambda value: isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind != "V",
)


def list_of(rule: Rule) -> Rule:
    """A list whose items keep to a rule."""
    return Rule(
        f"a list, each of it {rule.allowed}",
        lambda value: isinstance(value, list) and all(map(rule.accepts, value)),
    )


def table_of(rule: Rule) -> Rule:
    """A dictionary with texts for keys, whose values keep to a rule."""
    return Rule(
        f"a dict, each value {rule.allowed}",
        lambda value: (
            isinstance(value, dict)
            and all(isinstance(key, str) for key in value)
            and all(map(rule.accepts, value.values()))
        ),
    )


def check_parameters(owner: str, values: dict[str, Any], rules: dict[str, Rule]) -> None:
    """Raise one error that names every parameter with a bad value.

    Raises
    ------
    InvalidParameter
    """
    problems = [
        f"{owner}: parameter {name} must be {rule.allowed}; got {values[name]!r}"
        for name, rule in rules.items()
        if not rule.accepts(values[name])
    ]
    if problems:
        raise InvalidParameter("\n".join(problems))
