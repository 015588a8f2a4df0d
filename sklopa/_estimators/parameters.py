"""The parameters of all estimators: each once, with its default and what it may be.

A dataclass makes the `__init__` that scikit-learn asks for, with every parameter by name.
Docstrings stay written out in each estimator; a test holds them to what is declared here.
"""

from dataclasses import KW_ONLY, dataclass, field, fields, replace
from os import PathLike
from typing import Any

import numpy as np
from joblib import Memory

from sklopa._inputs.rules import (
    BOOLEAN,
    NONE,
    PATH,
    RANDOM_STATE,
    WORDS,
    Rule,
    instance_of,
    integer,
    one_of,
    real,
)
from sklopa._loading.description import Backbone, is_live_model
from sklopa._prompt import GATES


def _wrap_it(value: Any) -> str:
    """Advice for those who give a live model."""
    return ". Wrap it: Backbone.from_objects(model, tokenizer)" if is_live_model(value) else ""


_MODEL = PATH | replace(instance_of(Backbone, named="a Backbone"), advice=_wrap_it)

_SPLITTER = Rule(
    "a splitter of scikit-learn",
    lambda value: hasattr(value, "split") and hasattr(value, "get_n_splits"),
)
_OFF = Rule("False", lambda value: isinstance(value, (bool, np.bool_)) and not value)


def parameter(default: Any, rule: Rule) -> Any:
    """A parameter with its default, and the rule for its values."""
    return field(default=default, metadata={"rule": rule})


def replaced(name: str, default: Any) -> Any:
    """The parameter of that name with another default."""
    return parameter(default, PromptParameters.__dataclass_fields__[name].metadata["rule"])


def rules_of(kind: type) -> dict[str, Rule]:
    """The rules of all parameters of an estimator, by name."""
    return {f.name: f.metadata["rule"] for f in fields(kind)}


@dataclass(eq=False, repr=False)
class PromptParameters:
    """What every estimator takes."""

    model: str | PathLike | Backbone = parameter("sentence-transformers/all-MiniLM-L6-v2", _MODEL)
    _: KW_ONLY
    prompt_length: int = parameter(10, integer(0))
    rank: int = parameter(4, integer(0))
    gate: str = parameter("sigmoid", one_of(*GATES))
    bottleneck: int = parameter(16, integer(1))
    depth: str = parameter("shallow", one_of("shallow", "deep"))
    dropout: float = parameter(0.1, real(0, 1))
    encoder: str | PathLike | Backbone | None = parameter(None, _MODEL | NONE)
    train_encoder: bool = parameter(False, BOOLEAN)
    max_iter: int = parameter(6, integer(1))
    batch_size: int = parameter(32, integer(1))
    learning_rate: float = parameter(1e-3, real(0, open_low=True))
    schedule: str = parameter("linear", one_of("linear", "constant"))
    weight_decay: float = parameter(0.0, real(0))
    early_stopping: bool = parameter(False, BOOLEAN)
    validation_fraction: float = parameter(0.1, real(0, 1, open_low=True))
    n_iter_no_change: int = parameter(5, integer(1))
    tol: float = parameter(1e-4, real(0))
    warm_start: bool = parameter(False, BOOLEAN)
    memory: str | PathLike | Memory | None = parameter(
        None, PATH | instance_of(Memory, named="a joblib.Memory") | NONE
    )
    checkpoint_dir: str | PathLike | None = parameter(None, PATH | NONE)
    checkpoint_every: int | None = parameter(None, integer(1) | NONE)
    random_state: int | np.random.RandomState | None = parameter(None, RANDOM_STATE)
    verbose: int = parameter(0, integer(0) | BOOLEAN)


@dataclass(eq=False, repr=False)
class LayerParameters(PromptParameters):
    """What estimators whose head reads states take besides."""

    _: KW_ONLY
    prompt_layer: int = parameter(0, integer(0))
    cv: Any = parameter(5, integer(2) | _SPLITTER | _OFF)


@dataclass(eq=False, repr=False)
class TextParameters(PromptParameters):
    """What estimators that read texts take besides."""

    _: KW_ONLY
    max_length: int | None = parameter(None, integer(1) | NONE)
    nulls: str = parameter("error", one_of("error", "empty"))
    special_tokens: bool = parameter(False, BOOLEAN)
    initial_text: str | None = parameter(None, WORDS | NONE)


@dataclass(eq=False, repr=False)
class ClassParameters(LayerParameters):
    """What classifiers take besides."""

    _: KW_ONLY
    class_weight: dict | str | None = parameter(
        None, instance_of(dict, named="a dict") | one_of("balanced") | NONE
    )
