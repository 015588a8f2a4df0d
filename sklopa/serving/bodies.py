"""The bytes of an answer as they come: unpacked, bounded, and in lines at line feeds alone."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any, TypeVar

from sklopa.serving.answers import Nonsense

Value = TypeVar("Value")
_PIECE = 1 << 16  # bytes that are unpacked at a time, however small they were packed


class Clock:
    """The seconds that a server may take for one answer; only waiting for it counts.

    Parameters
    ----------
    seconds : float
        For all waits together.
    """

    def __init__(self, seconds: float) -> None:
        self.left = seconds

    async def wait(self, awaited: Awaitable[Value]) -> Value:
        """What `awaited` gives.

        Raises
        ------
        asyncio.TimeoutError
            If the time is over.
        """
        started = time.monotonic()
        try:
            return await asyncio.wait_for(awaited, self.left)
        finally:
            self.left -= time.monotonic() - started


async def pieces(response: Any, limit: int) -> AsyncIterator[bytes]:
    """The unpacked bytes of a response.

    Raises
    ------
    Nonsense
        If there are more than `limit`, or they cannot be unpacked.
    """
    unpack, length = _unpacker(response.headers.get("content-encoding", "")), 0
    async for packed in response.aiter_raw():
        for piece in unpack(packed):
            length += len(piece)
            if length > limit:
                raise Nonsense(f"more than {limit:,} bytes in one answer")
            yield piece


async def whole(response: Any, limit: int) -> bytes:
    """All bytes of a response, `limit` at most."""
    return b"".join([piece async for piece in pieces(response, limit)])


async def beginning(response: Any, limit: int) -> bytes:
    """The first bytes of a response that is of use even if it is cut off or broken."""
    kept = bytearray()
    try:
        async for piece in pieces(response, limit):
            kept += piece
    except Nonsense:
        pass
    return bytes(kept)


async def lines(response: Any, longest: int, limit: int) -> AsyncIterator[bytes]:
    """The lines of a response, at line feeds; honest text may hold other separators."""
    line = bytearray()
    async for piece in pieces(response, limit):
        first, *others = piece.split(b"\n")
        line += first
        for other in others:
            yield bytes(line)
            line = bytearray(other)
        if len(line) > longest:
            raise Nonsense(f"more than {longest:,} bytes in one line of a stream")
    yield bytes(line)


def _unpacker(encoding: str) -> Any:
    """A function from packed bytes to unpacked ones, a bounded piece at a time."""
    if encoding.strip().lower() in ("", "identity"):
        return lambda packed: [packed]
    if encoding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        raise Nonsense(f"an answer packed as {encoding[:40]!r}, which was not asked for")
    packer = zlib.decompressobj(wbits=47)  # gzip or zlib, as it begins

    def unpack(packed: bytes) -> Iterator[bytes]:
        try:
            while packed:
                yield packer.decompress(packed, _PIECE)
                packed = packer.unconsumed_tail
        except zlib.error:
            raise Nonsense(f"an answer that is not the {encoding!r} that it says it is") from None

    return unpack
