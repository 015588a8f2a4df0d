"""`PromptClient`: a fitted estimator whose frozen model runs on a server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from sklopa._inputs.rules import NONE, Rule, instance_of, integer, one_of, real
from sklopa._inputs.seeds import draw_seeds
from sklopa._public import public
from sklopa.errors import InvalidInput, InvalidParameter, ServerRefused
from sklopa.serving.http import CHAT, COMPLETIONS, Server, run, together
from sklopa.serving.verify import Agreement, verify

# For the --chat-template of a server whose model has none: messages pass through it as they are.
PLAIN_CHAT_TEMPLATE = (
    "{% for m in messages %}{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for part in m['content'] %}{{ part['text'] }}{% endfor %}{% endif %}{% endfor %}"
)


@public("sklopa.serving")
class PromptClient:
    """Predict with a frozen model that runs on a vLLM server, and a prompt that is made here.

    The server holds the bare foundation model and knows of no task: each request brings the soft
    prompt and the text, so that any number of tasks and users share one server. Here are the
    trained values, the instance encoder and, for ``api="completions"``, the model's
    word-embedding table, which is read from its file by itself.

    Start the server with ``--enable-prompt-embeds``, and where only trusted users reach it: it
    unpacks tensors that they send. The oldest version for that is vLLM 0.30, the first that bounds
    what they unpack to; before 0.11.1 they could write into its memory (CVE-2025-62164). `verify`
    warns below 0.30. What is sent from here are dense tensors in the precision of the frozen
    model: 17 KiB for 10 rows of 576 values in bfloat16, 32 in float32.

    A server reads a message with the tokens of the model that are spelt in it: with "<|im_end|>" in
    a text its author could end the message and go on in another role. The estimator reads that as
    text, so ``api="chat"`` refuses such a row, unless the estimator has ``special_tokens=True`` and
    reads the token too. (One that was fitted before these tokens were stored with it cannot tell.)
    "completions" sends what the estimator reads, whatever the text is.

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
    api : {"completions", "chat", "auto"}, default="completions"
        "completions" sends the embedded text with the prompt in it. "chat" sends messages of the
        prompt and the plain text, which are small and need nothing of the frozen model here; too
        long a text is refused instead of cut. The server uses the chat template that the
        estimator was fitted with, the model's own; for a model without one, or an estimator with
        ``chat_template=None``, it is to be started with ``--chat-template`` and
        `PLAIN_CHAT_TEMPLATE`. "auto" asks the server whether it reads such messages as the
        estimator does.
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
        api: str = "completions",
        max_concurrency: int = 32,
        patience: float = 60.0,
        timeout: float = 600.0,
    ) -> None:
        rules: tuple[tuple[str, Any, Rule], ...] = (
            ("max_concurrency", max_concurrency, integer(1)),
            ("patience", patience, real(0)),
            ("timeout", timeout, real(0, open_low=True)),
            ("model", model, instance_of(str, named="a str") | NONE),
            ("api", api, one_of("completions", "chat", "auto")),
        )
        for name, value, rule in rules:
            if not rule.accepts(value):
                raise InvalidParameter(
                    f"PromptClient: parameter {name} must be {rule.allowed}; got {value!r}"
                )
        self.estimator = estimator
        self.max_concurrency = max_concurrency
        self._server = Server(base_url, model, api_key, patience, timeout)
        self._api, self._writers = api, dict[str, Any]()
        if api != "auto":
            self._writer_for(api)

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
            If a row is too long for the server, or spells a token of the model in a message.
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
        rows, asked = self._writer.read([text]), self._asked(self._writer)
        async with self._server.connect() as session:
            name, room = await session.model()
            self._check_room(rows, asked, room)
            (body,) = self._bodies(rows, asked)
            async for piece in session.stream(body | {"model": name}, self._path):
                if piece:
                    yield piece

    def to_prompt_embeds(self, X: Any) -> list[Any]:
        """What would be sent: a tensor (P + T, D) and a JSON body for each row.

        Needs no server, and no package to talk to one. Send the body to ``/v1/completions``,
        with the server's name of the model under ``"model"``. The chat template, if there is one,
        is part of the embedded text; `messages` gives what the chat endpoint takes.

        Parameters
        ----------
        X : array-like of shape (n,) or (n, 2)

        Returns
        -------
        list of PromptEmbeds, with attributes `tensor` and `body`
        """
        from sklopa.serving.prompt_writer import PromptEmbeds, body_of

        writer = self._writer_for("completions")
        asked = self._asked(writer)
        tensors = writer.write(writer.read(X))
        return [PromptEmbeds(tensor, body_of(tensor) | asked.options) for tensor in tensors]

    def messages(self, X: Any) -> list[list[dict[str, Any]]]:
        """The ``messages`` of a chat request for each row, for any client of the protocol.

        Each is one message of the user: the soft prompt, then the text. Needs no server, and of
        the frozen model nothing. The server puts the chat template around them that it is started
        with; `verify` tells whether that is the one of the estimator.

        Parameters
        ----------
        X : array-like of shape (n,) or (n, 2)

        Returns
        -------
        list of n lists of dicts
        """
        writer = self._writer_for("chat")
        return list(writer.messages(writer.read(X)))

    def verify(self) -> Agreement:
        """Whether the server reads what is sent as the estimator itself does.

        With "completions" the same text goes there twice, as tokens and as embeddings. Another
        model, other weights of the word embeddings, or embeddings that are scaled once too often
        show at once. With "chat" the server tells the tokens that it made of a message, and the
        tokenizer of the frozen model is read here to compare them. What the layers above make of
        them cannot be seen from here.

        Returns
        -------
        Agreement, which is true or false

        Warns
        -----
        OldServerWarning
            If the server says that it is a vLLM before 0.30.
        """
        return run(verify(self._server, self._writer))

    # ------------------------------------------------------------------ steps

    @property
    def _generates(self) -> bool:
        return self.estimator._fitted_task().network.design.generates

    @property
    def _task(self) -> Any:
        """What was learned, with the parameters that the estimator has now."""
        return self.estimator._fitted_task().task

    def _writer_for(self, api: str) -> Any:
        """What writes the requests of "completions" or "chat", made once."""
        if api not in self._writers:
            from sklopa.serving.chat_writer import ChatWriter
            from sklopa.serving.prompt_writer import PromptWriter

            kind = ChatWriter if api == "chat" else PromptWriter
            self._writers[api] = kind(self.estimator._fitted_task())
        return self._writers[api]

    @property
    def _writer(self) -> Any:
        if self._api == "auto":
            self._api = self._fitting_api()
        return self._writer_for(self._api)

    def _fitting_api(self) -> str:
        """What "auto" stands for with this server."""
        try:
            fits = run(verify(self._server, self._writer_for("chat")))
        except (InvalidParameter, ServerRefused):  # here or there such messages are not known
            return "completions"
        return "chat" if fits else "completions"

    @property
    def _path(self) -> str:
        return CHAT if self._api == "chat" else COMPLETIONS

    def _asked(self, writer: Any) -> Any:
        from sklopa.serving.requests import LabelWords

        if self._generates:
            return self._continuation(writer, self._task.decoding, 1)
        return LabelWords(writer)

    def _continuation(self, writer: Any, decoding: Any, n_samples: int) -> Any:
        from sklopa.serving.requests import Continuation

        seed = draw_seeds(self.estimator.random_state).start if decoding.do_sample else 0
        return Continuation(writer, decoding, seed, n_samples)

    def _continue(self, X: Any, decoding: Any, n_samples: int) -> np.ndarray:
        asked = self._continuation(self._writer, decoding, n_samples)
        texts = run(self._ask_all(self._writer.read(X), asked))
        out = np.empty((len(texts), n_samples), dtype=object)
        out[:] = texts
        return out

    def _log_probabilities(self, X: Any) -> np.ndarray:
        return np.stack(run(self._ask_all(self._writer.read(X), self._asked(self._writer))))

    async def _ask_all(self, rows: Any, asked: Any) -> list[Any]:
        """The answers to all rows in their order; few requests are made or open at any time."""
        answers: list[Any] = [None] * len(rows)
        bodies = enumerate(self._bodies(rows, asked))
        async with self._server.connect(self.max_concurrency) as session:
            name, room = await session.model()
            self._check_room(rows, asked, room)

            async def work() -> None:
                for i, body in bodies:  # all workers draw from the same iterator
                    answers[i] = await session.complete(
                        body | {"model": name}, asked.read, self._path
                    )

            await together(work() for _ in range(min(self.max_concurrency, len(rows))))
        return answers

    def _bodies(self, rows: Any, asked: Any) -> Iterator[dict[str, Any]]:
        for body in self._writer.bodies(rows):
            yield body | asked.options

    def _check_room(self, rows: Any, asked: Any, room: int | None) -> None:
        if self._api == "chat":
            return  # only the server knows how many tokens a text has
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
