"""Requests to a server of language models: bounded, patient, with errors that say what to do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sklopa.errors import MissingDependency, ServerRefused, ServerUnreachable

_COMPLETIONS = "/v1/completions"
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 10.0  # seconds
_BUSY = (408, 425, 429)  # besides 5xx: worth another try


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
        Seconds until an answer must have come.
    """

    def __init__(
        self, base_url: str, model: str | None, api_key: str | None, patience: float, timeout: float
    ) -> None:
        self.url = base_url.rstrip("/").removesuffix("/v1")
        self.model, self.patience, self.timeout = model, patience, timeout
        self._key = api_key

    @contextlib.asynccontextmanager
    async def connect(self, n_connections: int = 1) -> AsyncIterator[Session]:
        """An open session for at most `n_connections` requests at a time."""
        httpx = _httpx()
        async with httpx.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx.Timeout(self.timeout, connect=min(10.0, self.timeout), pool=None),
            limits=httpx.Limits(max_connections=n_connections),
        ) as client:
            yield Session(self, client)


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
        models = (await self._ask("GET", "/v1/models")).json().get("data", [])
        # Adapters on top of a model name it as their parent.
        bare = [model for model in models if not model.get("parent")]
        wanted = self.server.model
        for model in bare if wanted is None else models:
            if wanted in (None, model["id"]):
                return model["id"], model.get("max_model_len")
        raise ServerRefused(
            f"The server at {self.server.url} has no model {wanted!r}; it serves "
            f"{', '.join(repr(model['id']) for model in models) or 'none'}. Give the name of the "
            "one that the estimator was fitted on as model=."
        )

    async def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to one completion request."""
        return (await self._ask("POST", _COMPLETIONS, body)).json()

    async def stream(self, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """The parts of an answer as they come."""
        response = await self._ask("POST", _COMPLETIONS, body | {"stream": True}, stream=True)
        try:
            async for line in response.aiter_lines():
                data = line.removeprefix("data:").strip()
                if not line.startswith("data:") or data == "[DONE]":
                    continue
                part = json.loads(data)
                if "error" in part:
                    raise ServerUnreachable(self._lost(part["error"].get("message")))
                yield part
        except _httpx().TransportError as error:
            raise ServerUnreachable(self._lost(error)) from error
        finally:
            await response.aclose()

    async def _ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, stream: bool = False
    ) -> Any:
        """The response to a request, which is tried again while the server is away or busy."""
        started, wait = time.monotonic(), _FIRST_WAIT
        while True:
            try:
                request = self.client.build_request(method, path, json=body)
                response = await self.client.send(request, stream=stream)
                if response.is_success:
                    return response
                await response.aread()
                trouble, cause = f"{response.status_code} {_message(response)}", None
                if response.status_code < 500 and response.status_code not in _BUSY:
                    raise self._refused(response)
            except _httpx().TransportError as error:
                trouble, cause = str(error) or type(error).__name__, error
            if time.monotonic() - started + wait > self.server.patience:
                raise ServerUnreachable(
                    f"The server at {self.server.url} does not answer ({trouble}), tried for "
                    f"{time.monotonic() - started:.0f} seconds. Check that it runs and that the "
                    "address is right; patience= waits longer for one that is starting."
                ) from cause
            await asyncio.sleep(wait * random.SystemRandom().uniform(0.5, 1.0))
            wait = min(2 * wait, _LONGEST_WAIT)

    def _refused(self, response: Any) -> ServerRefused:
        text, url = _message(response), self.server.url
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
        elif response.status_code in (401, 403):
            said = f"The server at {url} wants another api_key: {text}"
        elif response.status_code == 404:
            said = (
                f"There is nothing at {response.url}: {text} base_url is the address of a vLLM "
                "server, such as 'http://localhost:8000'."
            )
        else:
            said = f"The server at {url} refused the request: {text}"
        return ServerRefused(said)

    def _lost(self, trouble: object) -> str:
        return (
            f"The server at {self.server.url} broke off in the middle of an answer ({trouble}). "
            "Ask again; predict does so by itself."
        )


def run(coroutine: Coroutine) -> Any:
    """The result of a coroutine, also where an event loop runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def _message(response: Any) -> str:
    """What the server says about a failure, in one line."""
    try:
        error = response.json()["error"]
        text = error["message"] if isinstance(error, dict) else str(error)
    except (ValueError, KeyError, TypeError):
        text = response.text
    return " ".join(text.split())[:500] or response.reason_phrase


def _httpx() -> Any:
    try:
        import httpx
    except ImportError as error:
        raise MissingDependency(
            "Asking a server needs the package httpx, which is not installed. Install it with: "
            "pip install sklopa[serving]"
        ) from error
    return httpx
