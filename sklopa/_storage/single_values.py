"""Single values of restored state, each with all that it may be; see `trust` for the whole."""

from __future__ import annotations

from typing import Any

import numpy as np

from sklopa.errors import InvalidArchive, SklopaError

REFUSED = "This archive is damaged, or was not written by sklopa: "
# What scikit-learn keeps of `set_fit_request` and the like, in an estimator and as it is stored.
REQUESTS, STORED_REQUESTS = "_metadata_request", "_requests"
_MT19937_WORDS = 624


def refused(reason: str) -> InvalidArchive:
    """The error for stored state that is damaged or not to be trusted."""
    return InvalidArchive(
        f"{REFUSED}{reason}. Nothing of it was used; "
        "take another copy, or save the estimator again."
    )


def as_refused(error: Exception) -> SklopaError:
    """Whatever a hostile value led to, as our own error."""
    text = " ".join(str(error).split())[:300] or type(error).__name__
    return error if isinstance(error, InvalidArchive) else refused(text.rstrip("."))


def shown(value: Any) -> str:
    """A value in a message."""
    return repr(value)[:80]


def check_generator_state(state: Any) -> tuple:
    """The state of a `RandomState`, before or after it is set.

    numpy takes any position in the table of words, and reads there: outside of it, the process
    ends. So the position is checked, and all else with it.

    Raises
    ------
    InvalidArchive
    """
    fine = isinstance(state, tuple) and len(state) == 5 and state[0] == "MT19937"
    if fine:
        _, words, position, has_spare, spare = state
        fine = (
            isinstance(words, np.ndarray)
            and words.shape == (_MT19937_WORDS,)
            and words.dtype.kind in "ui"
            and type(position) is int
            and 0 <= position <= _MT19937_WORDS
            and has_spare in (0, 1)
            and isinstance(spare, float)
            and bool(np.isfinite(spare))
        )
    if not fine:
        raise refused("random_state is no state of a generator")
    return state


def check_requests(requests: Any) -> dict[str, dict]:
    """Metadata requests by method and parameter, each True, False, None or another name.

    Raises
    ------
    InvalidArchive
    """
    fine = isinstance(requests, dict) and all(
        isinstance(method, str)
        and isinstance(asked, dict)
        and all(isinstance(name, str) and name.isidentifier() for name in asked)
        and all(
            value is None
            or isinstance(value, bool)
            or (isinstance(value, str) and (value.isidentifier() or value == "$WARN$"))
            for value in asked.values()
        )
        for method, asked in requests.items()
    )
    if not fine:
        raise refused("its metadata requests are not True, False, None or names")
    return requests


def requests_of(estimator: Any) -> dict[str, dict]:
    """What `set_fit_request` and the like were told, in plain values; empty for nothing."""
    return plain_requests({REQUESTS: vars(estimator).get(REQUESTS)})


def give_requests(estimator: Any, requests: dict[str, dict]) -> None:
    """Put plain requests back where scikit-learn looks for them."""
    if not requests:
        return
    from sklearn.utils.metadata_routing import MetadataRequest

    made = MetadataRequest(owner=estimator)
    for method, asked in requests.items():
        if not hasattr(made, method):
            raise refused(f"its metadata requests are of a method {method!r}")
        for name, value in asked.items():
            getattr(made, method).add_request(param=name, alias=value)
    setattr(estimator, REQUESTS, made)


def plain_requests(values: dict[str, Any]) -> dict[str, dict]:
    """Takes requests out of state: as we write them, or as scikit-learn holds them."""
    stored, held = values.pop(STORED_REQUESTS, None), values.pop(REQUESTS, None)
    if held is None:
        return {} if stored is None else stored
    from sklearn.utils.metadata_routing import MetadataRequest

    if type(held) is not MetadataRequest:
        raise refused("its metadata requests are none")
    asked = {method: dict(vars(r).get("_requests") or {}) for method, r in vars(held).items()
             if hasattr(r, "add_request")}  # fmt: skip
    return {method: names for method, names in asked.items() if names}


def plain(value: Any) -> Any:
    """A parameter as Python has it: numbers of numpy, at any depth, become numbers of Python."""
    if isinstance(value, np.generic):
        return plain(value.item()) if value.dtype.kind in "biufUS" else value
    if type(value) in (list, tuple):
        return type(value)(plain(item) for item in value)
    if type(value) is dict:
        return {plain(key): plain(item) for key, item in value.items()}
    return value


def check_training(state: Any) -> dict[str, Any]:
    """What `partial_fit` goes on from: a plan, states of generators, and moments of the optimizer.

    Raises
    ------
    InvalidArchive
    """

    def is_array(value: Any, dtype: type) -> bool:
        fine = isinstance(value, np.ndarray) and value.dtype == dtype
        return fine and bool(np.isfinite(value).all())

    fine = isinstance(state, dict) and state.keys() == {"plan", "order", "dropout", "moments"}
    fine = (
        fine
        and isinstance(state["plan"], dict)
        and all(isinstance(value, (int, float, str)) for value in state["plan"].values())
        and isinstance(state["dropout"], list)
        and all(is_array(value, np.uint8) for value in [state["order"], *state["dropout"]])
        and isinstance(state["moments"], dict)
        and all(
            isinstance(i, str)
            and i.isdecimal()
            and isinstance(of_one, dict)
            and of_one.keys() == {"step", "exp_avg", "exp_avg_sq"}
            and all(is_array(value, np.float32) for value in of_one.values())
            for i, of_one in state["moments"].items()
        )
    )
    if not fine:
        raise refused("what it keeps to go on from is none")
    return state
