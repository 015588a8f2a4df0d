"""What a server's answers must be, so that nonsense is refused and never predicted from."""

from __future__ import annotations

import json
import reprlib
from typing import Any, NamedTuple

_SLACK = 1e-3  # nats by which rounding may lift a log-probability above 0
_LOWEST = -1e30  # nats; still a number in single precision


class Nonsense(ValueError):
    """An answer that cannot be used.

    Parameters
    ----------
    what : str
        What the server gave, to be said behind "gave".
    advice : str
        What to do, in half a sentence.
    """

    def __init__(
        self, what: str, advice: str = "check that base_url is the address of a vLLM server"
    ) -> None:
        super().__init__(what)
        self.advice = advice


class Model(NamedTuple):
    """A model that a server has.

    Attributes
    ----------
    name : str
    is_adapter : bool
    room : int or None, positions that it reads
    """

    name: str
    is_adapter: bool
    room: int | None


def parse(data: bytes) -> Any:
    """An answer as JSON."""
    try:
        return json.loads(data.decode())
    except (ValueError, RecursionError):
        raise Nonsense(f"{_shown(data.decode(errors='replace'))} where JSON was expected") from None


def models(answer: Any) -> list[Model]:
    """The models of a list of models."""
    found = _get(answer, "data", list, "list of models")
    return [_model(model) for model in found]


def _model(model: Any) -> Model:
    name = _get(model, "id", str, "name of a model")
    room = model.get("max_model_len")
    if room is not None and not (type(room) is int and room > 0):
        raise Nonsense(f"{_shown(room)} as max_model_len of its model {name!r}")
    return Model(name, bool(model.get("parent")), room)


def texts(answer: Any, n: int) -> list[str]:
    """The texts of `n` choices."""
    return [_get(choice, "text", str, "text") for choice in _choices(answer, n)]


def part_texts(part: Any) -> list[str]:
    """The texts of one part of a stream, which may have none."""
    choices = _get(part, "choices", list, "list of choices")
    return [_get(choice, "text", str, "text") for choice in choices]


def chat_texts(answer: Any, n: int) -> list[str]:
    """The texts of `n` choices of a chat."""
    messages = [_get(choice, "message", dict, "message") for choice in _choices(answer, n)]
    return [_get(message, "content", str, "text") for message in messages]


def chat_part_texts(part: Any) -> list[str]:
    """The texts of one part of a streamed chat; some parts tell of something else."""
    choices = _get(part, "choices", list, "list of choices")
    deltas = [_get(choice, "delta", dict, "piece of a message") for choice in choices]
    return [_get(d, "content", str, "text") for d in deltas if d.get("content") is not None]


def prompt_ids(answer: Any) -> list[int]:
    """The tokens that a server read."""
    found = _get(answer, "prompt_token_ids", list, "tokens of the prompt")
    if not all(type(token) is int for token in found):
        raise Nonsense(f"{_shown(found)} as tokens of the prompt")
    return found


def version(answer: Any) -> str:
    """What a server says of its version."""
    return _get(answer, "version", str, "version")


def chat_log_probabilities(answer: Any) -> dict[str, float]:
    """Log-probabilities of the first token of the one choice of a chat."""
    (choice,) = _choices(answer, 1)
    inner = _get(choice, "logprobs", dict, "log-probabilities")
    rows = _get(inner, "content", list, "log-probabilities")
    first = _get(rows[0] if rows else None, "top_logprobs", list, "log-probabilities")
    tokens = [_get(one, "token", str, "token") for one in first]
    return {t: _log_probability(one.get("logprob")) for t, one in zip(tokens, first, strict=True)}


def log_probabilities(answer: Any) -> dict[str, float]:
    """Log-probabilities of the first token of the one choice that was asked for."""
    (choice,) = _choices(answer, 1)
    inner = _get(choice, "logprobs", dict, "log-probabilities")
    rows = _get(inner, "top_logprobs", list, "log-probabilities")
    if not rows or not isinstance(rows[0], dict) or not rows[0]:
        raise Nonsense(f"{_shown(rows)} as log-probabilities")
    return {token: _log_probability(value) for token, value in rows[0].items()}


def _log_probability(value: Any) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not _LOWEST < value <= _SLACK:  # which NaN is not either
        raise Nonsense(f"{_shown(value)} as a log-probability")
    return float(value)


def error_text(answer: Any) -> str | None:
    """What an error object says; None for another answer."""
    if not isinstance(answer, dict) or not answer.get("error"):
        return None
    error = answer["error"]
    said = error.get("message") if isinstance(error, dict) else error
    return " ".join(str(said).split())[:500]


def _choices(answer: Any, n: int) -> list[Any]:
    found = _get(answer, "choices", list, "list of choices")
    if len(found) != n:
        raise Nonsense(f"{len(found)} choices where {n} had to come")
    return found


def _get(value: Any, key: str, kind: type, what: str) -> Any:
    """``value[key]``, which must be there and be of a kind."""
    if (said := error_text(value)) is not None:
        raise Nonsense(f"the error {said!r} with a status of success", "ask again, or see its log")
    if not isinstance(value, dict):
        raise Nonsense(f"{_shown(value)} where a {what} was expected")
    if not isinstance(value.get(key), kind):
        raise Nonsense(f"{_shown(value.get(key))} as {what}")
    return value[key]


def _shown(value: Any) -> str:
    """A value as JSON has it, in few characters."""
    if isinstance(value, (dict, list)):
        return reprlib.repr(value)
    text = " ".join((value if isinstance(value, str) else json.dumps(value)).split())
    text = text if len(text) <= 60 else f"{text[:57]}..."
    return repr(text) if isinstance(value, str) else text
