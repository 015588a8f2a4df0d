"""`PromptClient`: a fitted estimator whose frozen model runs on a server."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from sklopa._inputs.rules import NONE, Rule, instance_of, integer, real
from sklopa._inputs.seeds import draw_seeds
from sklopa._public import public
from sklopa.errors import InvalidInput, InvalidParameter
from sklopa.serving.answers import log_probabilities
from sklopa.serving.http import Server, run, together

_PROBE = "The quick brown fox jumps over the lazy dog, and then it says:"
_PROBE_TOKENS, _PROBE_LOGPROBS, _PROBE_TOLERANCE = 8, 5, 0.01


@public("sklopa.serving")
class Agreement(NamedTuple):
    """What `PromptClient.verify` found.

    Attributes
    ----------
    agrees : bool
    difference : float
        Largest difference of a log-probability of the first token, in nats.
    message : str
        The same for people.
    """

    agrees: bool
    difference: float
    message: str

    def __bool__(self) -> bool:
        return self.agrees


@public("sklopa.serving")
class PromptClient:
    """Predict with a frozen model that runs on a vLLM server, and a prompt that is made here.

    The server holds the bare foundation model and knows of no task: each request brings the soft
    prompt and the embedded text, so that any number of tasks and users share one server. Here
    are the trained values, the instance encoder and the model's word-embedding table, which is
    read from its file by itself.

    Start the server with ``--enable-prompt-embeds``, and where only trusted users reach it.

    Parameters
    ----------
    estimator : fitted LoPAGenerator, or LoPAClassifier with a causal ``head="verbalizer"``
        A small `encoder`, or ``rank=0``, keeps the foundation model off this machine. With
        ``encoder=None`` the foundation model itself makes the instance embeddings and is loaded
        here too; a `WholeModelWarning` says so.
    base_url : str
        Address of the server, such as "http://localhost:8000". A user and a password in it are
        sent, and shown nowhere.
    model : str, default=None
        Name that the server gives the model; None takes the one that it serves.
    api_key : str, default=None
        Sent as a bearer token. It is not kept in a pickle of the estimator.
    max_concurrency : int, default=32
        Requests that are on their way at the same time, one for each row.
    patience : float, default=60.0
        Seconds for which a server that is away or busy is tried again, with growing pauses.
    timeout : float, default=600.0
        Seconds that the server may take for one answer in all, to its last byte. Of a stream,
        only the waits for pieces count. A server that is too slow is not asked again.

    Examples
    --------
    >>> from sklopa.serving import PromptClient
    >>> client = PromptClient(generator, "http://localhost:8000")  # doctest: +SKIP
    >>> client.verify().agrees  # doctest: +SKIP
    True
    >>> client.predict(["name[Zizzi]"])  # doctest: +SKIP
    array(['This is Zizzi.'], dtype=object)
    """

    def __init__(
        self,
        estimator: Any,
        base_url: str,
        model: str | None = None,
        api_key: str | None = None,
        *,
        max_concurrency: int = 32,
        patience: float = 60.0,
        timeout: float = 600.0,
    ) -> None:
        from sklopa.serving.prompt_writer import PromptWriter

        rules: tuple[tuple[str, Any, Rule], ...] = (
            ("max_concurrency", max_concurrency, integer(1)),
            ("patience", patience, real(0)),
            ("timeout", timeout, real(0, open_low=True)),
            ("model", model, instance_of(str, named="a str") | NONE),
        )
        for name, value, rule in rules:
            if not rule.accepts(value):
                raise InvalidParameter(
                    f"PromptClient: parameter {name} must be {rule.allowed}; got {value!r}"
                )
        self.estimator = estimator
        self.max_concurrency = max_concurrency
        self._server = Server(base_url, model, api_key, patience, timeout)
        self._writer = PromptWriter(estimator._fitted_task())

    def __repr__(self) -> str:
        return f"PromptClient({self.estimator!r}, {self._server.url!r})"

    # ------------------------------------------------------------------ predicting

    def predict(self, X: Any) -> np.ndarray:
        """What the estimator's own `predict` gives: a text or a label for each row.

        Parameters
        ----------
        X : array-like of shape (n,) or (n, 2)

        Returns
        -------
        ndarray of shape (n,)

        Raises
        ------
        ServerUnreachable
            If no server answers within `patience`.
        ServerRefused
            If it has no such model, takes no prompt embeddings, or answers with nonsense.
        InvalidInput
            If a row is too long for the server.
        """
        if not self._generates:
            return self._task.decide(self._log_probabilities(X))
        return self._continue(X, self._task.decoding, 1)[:, 0]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class, (n, C); of a classifier only."""
        if self._generates:
            raise InvalidParameter("predict_proba needs a LoPAClassifier; use predict or sample.")
        return self._task.probabilities(self._log_probabilities(X))

    def sample(self, X: Any, n_samples: int) -> np.ndarray:
        """Draw several texts a row, (n, n_samples); of a generator only."""
        if not self._generates:
            raise InvalidParameter("sample needs a LoPAGenerator; use predict or predict_proba.")
        if not integer(1).accepts(n_samples):
            raise InvalidParameter(
                f"sample: n_samples must be {integer(1).allowed}; got {n_samples!r}"
            )
        drawing = replace(self._task.decoding, do_sample=True, num_beams=1)
        return self._continue(X, drawing, n_samples)

    async def stream(self, text: Any) -> AsyncIterator[str]:
        """The pieces of one generated text, as soon as the server has them.

        Parameters
        ----------
        text : str, or (str, str) for a generator of text pairs

        Yields
        ------
        str
        """
        if not self._generates:
            raise InvalidParameter("stream needs a LoPAGenerator; use predict or predict_proba.")
        rows, asked = self._writer.read([text]), self._continuation(self._task.decoding, 1)
        async with self._server.connect() as session:
            name, room = await session.model()
            self._check_room(rows, asked, room)
            (body,) = self._bodies(rows, asked)
            async for piece in session.stream(body | {"model": name}):
                if piece:
                    yield piece

    def to_prompt_embeds(self, X: Any) -> list[Any]:
        """What would be sent: a tensor (P + T, D) and a JSON body for each row.

        Needs no server, and no package to talk to one. Send the body to ``/v1/completions``,
        with the server's name of the model under ``"model"``. The chat endpoint would put its
        template in front of the prompt, which stands behind it in no training row; here the
        template is part of the embedded text.

        Parameters
        ----------
        X : array-like of shape (n,) or (n, 2)

        Returns
        -------
        list of PromptEmbeds, with attributes `tensor` and `body`
        """
        from sklopa.serving.prompt_writer import PromptEmbeds

        rows, asked = self._writer.read(X), self._asked()
        tensors, bodies = self._writer.write(rows), self._bodies(rows, asked)
        return [PromptEmbeds(*both) for both in zip(tensors, bodies, strict=True)]

    def verify(self) -> Agreement:
        """Whether the server reads embeddings made here as it reads its own tokens.

        The same text goes there twice, as tokens and as embeddings. Another model, other weights
        of the word embeddings, or embeddings that are scaled once too often show at once. What
        the layers above make of them cannot be seen from here.

        Returns
        -------
        Agreement, which is true or false
        """
        return run(self._verify())

    # ------------------------------------------------------------------ steps

    @property
    def _generates(self) -> bool:
        return self._writer.network.design.generates

    @property
    def _task(self) -> Any:
        """What was learned, with the parameters that the estimator has now."""
        return self.estimator._fitted_task().task

    def _asked(self) -> Any:
        from sklopa.serving.requests import LabelWords

        if self._generates:
            return self._continuation(self._task.decoding, 1)
        return LabelWords(self._writer)

    def _continuation(self, decoding: Any, n_samples: int) -> Any:
        from sklopa.serving.requests import Continuation

        seed = draw_seeds(self.estimator.random_state).start if decoding.do_sample else 0
        return Continuation(self._writer, decoding, seed, n_samples)

    def _continue(self, X: Any, decoding: Any, n_samples: int) -> np.ndarray:
        asked = self._continuation(decoding, n_samples)
        texts = run(self._ask_all(self._writer.read(X), asked))
        out = np.empty((len(texts), n_samples), dtype=object)
        out[:] = texts
        return out

    def _log_probabilities(self, X: Any) -> np.ndarray:
        return np.stack(run(self._ask_all(self._writer.read(X), self._asked())))

    async def _ask_all(self, rows: Any, asked: Any) -> list[Any]:
        """The answers to all rows in their order; few requests are made or open at any time."""
        answers: list[Any] = [None] * len(rows)
        bodies = enumerate(self._bodies(rows, asked))
        async with self._server.connect(self.max_concurrency) as session:
            name, room = await session.model()
            self._check_room(rows, asked, room)

            async def work() -> None:
                for i, body in bodies:  # all workers draw from the same iterator
                    answers[i] = await session.complete(body | {"model": name}, asked.read)

            await together(work() for _ in range(min(self.max_concurrency, len(rows))))
        return answers

    def _bodies(self, rows: Any, asked: Any) -> Iterator[dict[str, Any]]:
        from sklopa.serving.prompt_writer import encode

        for tensor in self._writer.write(rows):
            yield {"prompt": None, **_embeds(encode(tensor)), **asked.options}

    def _check_room(self, rows: Any, asked: Any, room: int | None) -> None:
        lengths = self._writer.lengths(rows)
        longest = int(lengths.argmax())
        needed = int(lengths[longest]) + asked.n_tokens
        if room is not None and needed > room:
            first = int((lengths + asked.n_tokens > room).argmax())
            raise InvalidInput(
                f"Row {first} takes {lengths[first]} positions with its prompt, and up to "
                f"{asked.n_tokens} more for the answer, and the server at {self._server.url} "
                f"reads {room}. Shorten it, lower max_length or max_new_tokens, or start the "
                f"server with --max-model-len {needed} or more."
            )

    async def _verify(self) -> Agreement:
        from sklopa.serving.prompt_writer import encode
        from sklopa.serving.requests import GREEDY

        ids = self._writer.frozen.tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
        asked: dict[str, Any] = GREEDY | {"max_tokens": _PROBE_TOKENS, "logprobs": _PROBE_LOGPROBS}
        async with self._server.connect() as session:
            asked["model"], _ = await session.model()
            embeds = {"prompt": None, **_embeds(encode(self._writer.embed(ids)))}
            theirs = await session.complete(asked | {"prompt": ids}, log_probabilities)
            ours = await session.complete(asked | embeds, log_probabilities)
        difference = _difference(ours, theirs)
        agrees = difference < _PROBE_TOLERANCE
        verdict = (
            "reads embeddings from here as its own tokens"
            if agrees
            else "reads embeddings from here otherwise than its own tokens: its weights are not "
            "those that the estimator was fitted on, or it scales embeddings once more"
        )
        return Agreement(
            agrees,
            difference,
            f"The server at {self._server.url} {verdict} (log-probabilities of the first token "
            f"differ by {difference:.2g}).",
        )


def _embeds(encoded: str) -> dict[str, str]:
    """The part of a body that holds embeddings.

    The salt keeps a server's prefix cache from taking one prompt for another; equal ones still
    share their work.
    """
    salt = hashlib.blake2b(encoded.encode(), digest_size=24).hexdigest()
    return {"prompt_embeds": encoded, "cache_salt": salt}


def _difference(ours: dict[str, float], theirs: dict[str, float]) -> float:
    """Largest difference over the likeliest tokens; infinite if these are others."""
    shared = ours.keys() & theirs.keys()
    best = max(theirs, key=theirs.__getitem__)
    if best not in shared:
        return float("inf")
    return max(abs(ours[token] - theirs[token]) for token in shared)
