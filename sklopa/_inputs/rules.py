"""Constructor parameters against one table of rules; all problems reported at once."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sklopa.errors import InvalidParameter


@dataclass(frozen=True)
class Rule:
    """What a parameter may be: a sentence for people and a test for the machine.

    Attributes
    ----------
    allowed : str
    accepts : callable, whether a value keeps to the rule
    advice : callable, what to do about a value that does not; empty for nothing special
    """

    allowed: str
    accepts: Callable[[Any], bool]
    advice: Callable[[Any], str] = lambda value: ""

    def __or__(self, other: Rule) -> Rule:
        return Rule(
            f"{self.allowed} or {other.allowed}",
            lambda value: self.accepts(value) or other.accepts(value),
            lambda value: self.advice(value) or other.advice(value),
        )


def _is_integer(value: Any) -> bool:
    # numpy has its durations among the integers
    return isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.timedelta64))


def _is_finite(value: Any) -> bool:
    """Whether a value is a number of Python or numpy that a float can hold."""
    try:
        number = _is_integer(value) or isinstance(value, (float, np.floating))
        return number and math.isfinite(value)
    except OverflowError:  # an integer such as 10**400
        return False


def integer(minimum: int, maximum: int | None = None) -> Rule:
    """An integer from `minimum` up, and not above `maximum`."""
    if maximum is None:
        return Rule(f"an integer >= {minimum}", lambda v: _is_integer(v) and v >= minimum)
    return Rule(
        f"an integer from {minimum} to {maximum}",
        lambda v: _is_integer(v) and minimum <= v <= maximum,
    )


def real(
    low: float, high: float = np.inf, *, open_low: bool = False, open_high: bool = True
) -> Rule:
    """A number between two bounds."""
    left, right = "(" if open_low else "[", ")" if open_high else "]"

    def accepts(value: Any) -> bool:
        if not _is_finite(value):
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
PATH = Rule(  # "" would be the working directory, and no path has a null character
    "a path",
    lambda value: isinstance(value, (str, os.PathLike)) and value != "" and "\0" not in str(value),
)
RANDOM_STATE = (
    integer(0, 2**32 - 1)  # what numpy takes
    | instance_of(np.random.RandomState, named="a numpy RandomState")
    | NONE
)
WORDS = Rule("a text with words", lambda value: isinstance(value, str) and value.strip() != "")
# An empty text ends every row before it begins.
TEXTS = Rule(
    "a non-empty text or a list of non-empty texts",
    lambda value: all(
        isinstance(text, str) and text
        for text in (value if isinstance(value, (list, tuple)) else [value])
    ),
)
# Logits are float32 and of size 10 to 1000, so that they are known to about 1e-6. Colder than
# that, rounding decides between tokens and the quotient soon overflows; hotter than its inverse,
# every token is equally likely already.
TEMPERATURE = real(1e-6, 1e6, open_high=False)


def as_plain(value: Any) -> Any:
    """`value` with numpy's scalars, at any depth of lists, tuples and dicts, as Python's.

    They are equal and behave alike, but for what is written: a file, a message, a key.
    """
    if isinstance(value, np.str_):
        return str.__str__(value)  # numpy's own would drop a null at the end
    if isinstance(value, np.generic) and not isinstance(value, np.timedelta64):
        for kind, plain in _PLAIN.items():
            if isinstance(value, kind):
                return plain(value)
        return value
    if isinstance(value, dict):
        return {as_plain(key): as_plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_plain(item) for item in value]
    if isinstance(value, tuple):
        return getattr(value, "_make", tuple)(map(as_plain, value))  # a named one stays one
    return value


_PLAIN = {
    np.bool_: bool, np.integer: int, np.floating: float, np.complexfloating: complex,
    np.bytes_: bytes,
}  # fmt: skip


def shown(value: Any, longest: int = 120) -> str:
    """`value` in a message: as a user would write it, and no longer than a line."""
    if hasattr(value, "state_dict"):  # a module of torch shows all that it consists of
        return f"a live {type(value).__name__}"
    plain = as_plain(value)
    text = str(plain) if isinstance(plain, np.generic) else repr(plain)
    text = " ".join(text.split())
    return text if len(text) <= longest else text[: longest - 4] + " ..."


# What a fitted estimator holds.
TEXT = instance_of(str, named="a text")
NUMBER = real(-np.inf)
SCORE = Rule(  # R2 of a single row is NaN
    "a number, finite or not",
    lambda value: isinstance(value, (int, float, np.number)) and not isinstance(value, bool),
)
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
        f"{owner}: parameter {name} must be {rule.allowed}; got {shown(values[name])}"
        f"{rule.advice(values[name])}"
        for name, rule in rules.items()
        if not rule.accepts(values[name])
    ]
    if problems:
        raise InvalidParameter("\n".join(problems))
