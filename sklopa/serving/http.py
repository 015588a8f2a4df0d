"""Requests to a server of language models: bounded, patient, with errors that say what to do."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sklopa.errors import MissingDependency, ServerRefused, ServerUnreachable
from sklopa.serving import answers
from sklopa.serving.address import read_address
from sklopa.serving.answers import Nonsense
from sklopa.serving.bodies import Clock, beginning, lines, whole

Value = TypeVar("Value")
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 10.0  # seconds
_BUSY = (408, 425, 429)  # besides 5xx: worth another try
# Bytes, unpacked: far more than any answer takes, and little beside a model.
_ANSWER_BYTES, _ERROR_BYTES, _LINE_BYTES = 64 << 20, 1 << 20, 1 << 20


class Server:
    """A server with the OpenAI protocol, as vLLM speaks it.

    Parameters
    ----------
    base_url : str
        With or without ``/v1`` at its end.
    model : str or None
        Name that the server gives the model; None for the one that it serves.
    api_key : str or None
    patience : float
        Seconds for which a server that does not answer, or is busy, is tried again.
    timeout : float
        Seconds that an answer may take in all, from the request to its last byte.
    """

    def __init__(
        self, base_url: str, model: str | None, api_key: str | None, patience: float, timeout: float
    ) -> None:
        self.address = read_address(base_url, api_key)
        self.model, self.patience, self.timeout = model, patience, timeout

    @property
    def url(self) -> str:
        """The address as it may be shown."""
        return self.address.url

    @contextlib.asynccontextmanager
    async def connect(self, n_connections: int = 1) -> AsyncIterator[Session]:
        """An open session for at most `n_connections` requests at a time."""
        httpx, key = _httpx(), self.address.api_key
        headers = {"Accept-Encoding": "identity"}  # a packed answer can be of any size
        async with httpx.AsyncClient(
            base_url=self.url,
            headers=headers | ({"Authorization": f"Bearer {key}"} if key else {}),
            auth=self.address.login,
            # A `Clock` bounds the rest. A server that is away is told from one that is slow.
            timeout=httpx.Timeout(None, connect=min(10.0, self.timeout / 2)),
            limits=httpx.Limits(max_connections=n_connections),
        ) as client:
            yield Session(self, client)


class _Busy(Exception):
    """The server cannot answer now."""


class Session:
    """Requests over an open connection.

    Parameters
    ----------
    server : Server
    client : httpx.AsyncClient
    """

    def __init__(self, server: Server, client: Any) -> None:
        self.server, self.client = server, client

    async def model(self) -> tuple[str, int | None]:
        """Name of the model to ask, and how many positions it reads.

        Raises
        ------
        ServerRefused
            If the server has no model of the name.
        """
        models, wanted = await self._ask("GET", "/v1/models", answers.models), self.server.model
        for model in models:
            if model.name == wanted or (wanted is None and not model.is_adapter):
                return model.name, model.room
        names = self.server.address.hide(", ".join(repr(model.name) for model in models))
        raise ServerRefused(
            f"The server at {self.server.url} has no model {wanted!r}; it serves "
            f"{names or 'none'}. Give the name of the one that the estimator was fitted on as "
            "model=."
        )

    async def version(self) -> str | None:
        """The server's version, where it tells."""
        try:
            return await self._ask("GET", "/version", answers.version)
        except ServerRefused:
            return None  # of other servers, and behind gateways

    async def complete(
        self, body: dict[str, Any], read: Callable[[Any], Value], path: str = COMPLETIONS
    ) -> Value:
        """What `read` makes of the answer to one request."""
        return await self._ask("POST", path, read, body)

    async def stream(self, body: dict[str, Any], path: str = COMPLETIONS) -> AsyncIterator[str]:
        """The texts of an answer as they come."""
        read = answers.chat_part_texts if path == CHAT else answers.part_texts
        clock = Clock(self.server.timeout)
        body = body | {"stream": True}
        response = await self._try(lambda: self._open("POST", path, body, clock))
        try:
            found = lines(response, _LINE_BYTES, _ANSWER_BYTES)
            while (data := await clock.wait(_next_event(found))) != b"[DONE]":
                if data is None:
                    raise self._lost("it ends without [DONE]")
                for text in self._part(data, read):
                    yield text
        except Nonsense as error:
            raise self._nonsense(error) from None  # which would repeat secrets
        except _httpx().TransportError as error:
            raise self._lost(error) from error
        except asyncio.TimeoutError:
            raise self._lost(f"timeout={self.server.timeout:g} seconds are over") from None
        finally:
            await response.aclose()

    def _part(self, data: bytes, read: Callable[[Any], list[str]]) -> list[str]:
        part = answers.parse(data)
        if (said := answers.error_text(part)) is not None:
            raise self._lost(said)
        return read(part)

    # ------------------------------------------------------------------ one request

    async def _ask(
        self,
        method: str,
        path: str,
        read: Callable[[Any], Value],
        body: dict[str, Any] | None = None,
    ) -> Value:
        """What `read` makes of an answer."""

        async def attempt() -> bytes:
            clock = Clock(self.server.timeout)
            response = await self._open(method, path, body, clock)
            try:
                return await clock.wait(whole(response, _ANSWER_BYTES))
            finally:
                await response.aclose()

        try:
            return read(answers.parse(await self._try(attempt)))
        except Nonsense as error:
            raise self._nonsense(error) from None  # which would repeat secrets

    async def _try(self, attempt: Callable[[], Awaitable[Value]]) -> Value:
        """The result of an attempt, which is made again while the server is away or busy.

        A server that has taken the request and is too slow is not asked again.
        """
        started, wait = time.monotonic(), _FIRST_WAIT
        while True:
            try:
                return await attempt()
            except asyncio.TimeoutError:
                slow = f"not within timeout={self.server.timeout:g} seconds"
                raise self._unreachable(slow, started) from None
            except (_Busy, _httpx().TransportError) as error:
                if time.monotonic() - started + wait > self.server.patience:
                    raise self._unreachable(error, started) from error
            await asyncio.sleep(wait * random.SystemRandom().uniform(0.5, 1.0))
            wait = min(2 * wait, _LONGEST_WAIT)

    async def _open(self, method: str, path: str, body: Any, clock: Clock) -> Any:
        """A response with a status of success, whose body has yet to be read."""
        request = self.client.build_request(method, path, json=body)
        response = await clock.wait(self.client.send(request, stream=True))
        if response.is_success:
            return response
        try:
            said = await clock.wait(beginning(response, _ERROR_BYTES))
        finally:
            await response.aclose()
        text = self.server.address.hide(_message(said) or response.reason_phrase)
        if response.status_code < 500 and response.status_code not in _BUSY:
            raise self._refused(response.status_code, path, text)
        raise _Busy(f"{response.status_code} {text}")

    # ------------------------------------------------------------------ what went wrong

    def _refused(self, status: int, path: str, text: str) -> ServerRefused:
        url = self.server.url
        if "enable-prompt-embeds" in text:
            said = (
                f"The server at {url} takes no prompt embeddings. Start it with "
                "--enable-prompt-embeds, where only trusted users reach it."
            )
        elif "hidden_size" in text or "hidden size" in text:
            said = (
                f"The server at {url} serves another model than the one that the estimator was "
                f"fitted on: {text}"
            )
        elif status in (401, 403):
            said = f"The server at {url} wants another api_key: {text}"
        elif status == 404:
            said = (
                f"There is nothing at {url}{path}: {text} base_url is the address of a vLLM "
                "server, such as 'http://localhost:8000'."
            )
        else:
            said = f"The server at {url} refused the request: {text}"
        return ServerRefused(said)

    def _nonsense(self, error: Nonsense) -> ServerRefused:
        gave = self.server.address.hide(str(error))
        return ServerRefused(f"The server at {self.server.url} gave {gave}; {error.advice}.")

    def _lost(self, trouble: object) -> ServerUnreachable:
        said = self.server.address.hide(str(trouble) or type(trouble).__name__)
        return ServerUnreachable(
            f"The server at {self.server.url} broke off in the middle of an answer ({said}). "
            "Ask again; predict does so by itself."
        )

    def _unreachable(self, trouble: object, started: float) -> ServerUnreachable:
        said = self.server.address.hide(str(trouble) or type(trouble).__name__)
        return ServerUnreachable(
            f"The server at {self.server.url} does not answer ({said}), tried for "
            f"{time.monotonic() - started:.0f} seconds. Check that it runs and that the address is "
            "right; patience= waits longer for one that is starting, timeout= for an answer."
        )


async def _next_event(found: AsyncIterator[bytes]) -> bytes | None:
    """The data of the next event of a stream; None behind the last one."""
    async for line in found:
        if line.startswith(b"data:"):
            return line.removeprefix(b"data:").strip()
        if line.strip() and not line.startswith((b":", b"event:", b"id:", b"retry:")):
            shown = repr(line[:60].decode(errors="replace"))
            raise Nonsense(f"{shown} where a stream was expected")
    return None


async def together(coroutines: Iterable[Coroutine]) -> None:
    """Run coroutines at once; where one fails, the others end before its error is raised."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def run(coroutine: Coroutine) -> Any:
    """The result of a coroutine, also where an event loop runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def _message(said: bytes) -> str:
    """What a server says about a failure, in one line."""
    try:
        text = answers.error_text(answers.parse(said))
    except Nonsense:
        text = None
    return text or " ".join(said.decode(errors="replace").split())[:500]


def _httpx() -> Any:
    try:
        import httpx
    except ImportError as error:
        raise MissingDependency(
            "Asking a server needs the package httpx, which is not installed. Install it with: "
            "pip install httpx"
        ) from error
    return httpx
