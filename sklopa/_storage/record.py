"""A fitted estimator in plain values: what is stored, and what may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sklopa._inputs.rules import Rule
from sklopa._network.fitted import FittedNetwork


@dataclass(frozen=True)
class Record:
    """All that a fitted estimator is made from again.

    Attributes
    ----------
    kind : str, class of the estimator
    parameters : dict, as `get_params` gives them
    attributes : dict, what `fit` found
    network : FittedNetwork
    requests : dict, what `set_fit_request` and the like were told
    """

    kind: str
    parameters: dict[str, Any]
    attributes: dict[str, Any]
    network: FittedNetwork
    requests: dict[str, dict] = field(default_factory=dict)


@dataclass(frozen=True)
class Schema:
    """What a record of one class of estimators may hold.

    Attributes
    ----------
    kind : str, class of the estimator
    parameters, attributes : dicts of rules, by name
    optional : names of attributes that need not be there
    n_views : int, views of a row that a head reads at most
    reads : {"texts", "images"}
    check : callable
        Raises unless parameters fit together.
    is_ours : bool, whether the class is one of the library's, and not a user's subclass
    knows : callable
        Whether state may hold an attribute of that name besides, as a user's subclass may.
    """

    kind: str
    parameters: Mapping[str, Rule]
    attributes: Mapping[str, Rule]
    optional: frozenset[str]
    n_views: int
    reads: str
    check: Callable[[dict[str, Any]], None]
    is_ours: bool = True
    knows: Callable[[str], bool] = lambda name: False
