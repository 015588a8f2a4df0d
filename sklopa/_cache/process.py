"""What is known of each distinct text, kept once for the whole process.

Tokens and instance embeddings of a text never change while the model is frozen, so folds,
refits, candidates of a search and `predict` after `fit` all find them here.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from sklopa._cache.disk import DiskStore
from sklopa._cache.forks import after_fork
from sklopa._public import public


@public("sklopa")
class CacheInfo(NamedTuple):
    """Counters of the cache, in the manner of `functools.lru_cache`.

    `misses` counts distinct texts that had to be computed, `hits` those found. `states_bytes` is
    what is kept of them for prompts that enter at a later layer, up to `states_max_bytes`.
    `fits_bytes` is what fits leave to others, up to `fits_max_bytes`: where their heads begin, and
    with ``schedule="constant"`` the state that a fit with more epochs goes on from.
    """

    hits: int
    misses: int
    bytes: int
    max_bytes: int
    states_bytes: int = 0
    states_max_bytes: int = 0
    fits_bytes: int = 0
    fits_max_bytes: int = 0


class TextCache:
    """A bounded store of arrays by (what was computed, text); the oldest leave first."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._store: OrderedDict[tuple[Hashable, bytes], tuple[Any, int]] = OrderedDict()
        self.renew_locks()
        self.clear()

    def renew_locks(self) -> None:
        """Locks that nobody holds."""
        self._lock, self._computing = threading.RLock(), threading.RLock()

    def clear(self) -> None:
        """Forget everything and set the counters to zero."""
        with self._lock:
            self._store.clear()
            self._hits = self._misses = self._bytes = 0

    def info(self) -> CacheInfo:
        """The counters."""
        return CacheInfo(self._hits, self._misses, self._bytes, self.max_bytes)

    def compute(
        self,
        namespace: Hashable,
        rows: Sequence[Any],
        compute: Callable[[list[Any]], Iterator[tuple[int, Any]]],
        size: Callable[[Any], int | None],
        store: DiskStore | None = None,
    ) -> list[Any]:
        """One value a row, where `compute` sees each distinct unknown row once.

        Parameters
        ----------
        namespace : hashable
            All that the value depends on besides the text.
        compute : callable
            Takes rows, yields (index, value) in any order.
        size : callable
            Bytes that a value takes; None for one that is not to be kept.
        store : DiskStore, optional
            Asked for what is not known in this process, and given what it lacks.
        """
        keys = [(namespace, _digest(row)) for row in rows]
        with self._computing:  # of two threads with the same text one computes it
            found, missing = self._look_up(keys, rows)
            stored = store.get([text for _, text in missing]) if store and missing else {}
            new = dict(stored)
            order = [key for key in missing if key[1] not in stored]
            for i, value in compute([missing[key] for key in order]):
                new[order[i][1]] = value
            if store:
                known = {text: value for (_, text), value in found.items()}
                fresh = {text: new[text] for _, text in order}
                store.put(fresh | {text: known[text] for text in store.lacking(known)})
            self._count(hits=len(found) + len(stored), misses=len(order))
            for text, value in new.items():
                found[namespace, text] = value
                if (n_bytes := size(value)) is not None:
                    self._put((namespace, text), value, n_bytes)
        return [found[key] for key in keys]

    def put(
        self, namespace: Hashable, row: Any, value: Any, size: int, *, replace: bool = False
    ) -> None:
        """Keep a value that was computed on the way to another one, or another in its place."""
        key = (namespace, _digest(row))
        with self._lock:
            if replace and key in self._store:
                self._bytes -= self._store.pop(key)[1]
            self._put(key, value, size)

    def get(self, namespace: Hashable, rows: Sequence[Any]) -> list[Any]:
        """The values of those rows that have one, and None for the others."""
        keys = [(namespace, _digest(row)) for row in rows]
        found, _ = self._look_up(keys, rows)
        return [found.get(key) for key in keys]

    def _count(self, hits: int, misses: int) -> None:
        with self._lock:
            self._hits += hits
            self._misses += misses

    def _look_up(self, keys: list, rows: Sequence[Any]) -> tuple[dict, dict]:
        found, missing = {}, {}
        with self._lock:
            for key, row in zip(keys, rows, strict=True):
                if key in found or key in missing:
                    continue
                if key in self._store:
                    self._store.move_to_end(key)
                    found[key] = self._store[key][0]
                else:
                    missing[key] = row
        return found, missing

    def _put(self, key: tuple, value: Any, size: int) -> None:
        with self._lock:
            if key in self._store or size > self.max_bytes:
                return
            self._store[key] = (value, size)
            self._bytes += size
            while self._bytes > self.max_bytes:
                _, (_, freed) = self._store.popitem(last=False)
                self._bytes -= freed


# 256 MiB hold the tokens and embeddings of roughly 100 000 short texts.
EMBEDDINGS = TextCache(max_bytes=192 << 20)
TOKENS = TextCache(max_bytes=64 << 20)
# What the layer of a prompt reads: about 10 000 texts of 30 tokens in 384 dimensions.
STATES = TextCache(max_bytes=512 << 20)
# About 450 images of 224 x 224, or 20 000 of 32 x 32.
PIXELS = TextCache(max_bytes=256 << 20)
# Of about 200 fits with 80 000 trainable parameters where they stand.
FITS = TextCache(max_bytes=256 << 20)


for _cache in (EMBEDDINGS, TOKENS, STATES, PIXELS, FITS):
    after_fork(_cache.renew_locks)


def cache_info() -> CacheInfo:
    """Hits, misses and bytes of the instance embeddings kept in this process.

    `misses` is the number of distinct texts that went through an instance encoder.
    """
    states, fits = STATES.info(), FITS.info()
    return EMBEDDINGS.info()._replace(
        states_bytes=states.bytes, states_max_bytes=states.max_bytes,
        fits_bytes=fits.bytes, fits_max_bytes=fits.max_bytes,
    )  # fmt: skip


def cache_clear() -> None:
    """Forget all tokens, pixels, states, instance embeddings and fits kept in this process."""
    EMBEDDINGS.clear()
    STATES.clear()
    TOKENS.clear()
    PIXELS.clear()
    FITS.clear()


def _digest(row: Any) -> bytes:
    if hasattr(row, "digest"):  # of an image, or whatever else knows what stands for its content
        return row.digest
    parts = (row,) if isinstance(row, str) else row
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.digest()


def array_bytes(value: np.ndarray) -> int:
    """Bytes of an array, plus a rough share for its key and bookkeeping."""
    return value.nbytes + 200
