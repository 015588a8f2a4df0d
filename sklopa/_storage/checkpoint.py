"""Where a fit stands, kept so that it goes on from there: in a folder, or in this process."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import safetensors.torch
import torch

from sklopa._cache import process
from sklopa._cache.content import Content, content_of
from sklopa._inputs.seeds import Seeds
from sklopa._storage import files
from sklopa._storage.lock import Busy, locked
from sklopa._storage.read import read_archive
from sklopa._storage.single_values import plain, refused
from sklopa._storage.values import Tensors, pack, unpack
from sklopa.errors import ArchiveNotFound, CheckpointMismatch, InvalidArchive, NotWritten

# Parameters that change nothing of what is learned.
_FREE = {"cv", "verbose", "memory", "checkpoint_dir", "checkpoint_every"}
# Parameters that earlier states do not name, and what they were.
_LATER = {"schedule": "linear"}
# What else tells fits apart, as a message says it.
_SAID = {
    "estimator": "estimator class",
    "data": "data",
    "start": "weights to go on from",
    "models": "model files",
}


class Checkpoint:
    """The state of one fit in one folder.

    Parameters
    ----------
    folder : Path
    every : int or None
        Steps between two writes; None for one write an epoch.
    identity : dict
        All that the result of the fit depends on, as JSON; see `identify`.
    """

    def __init__(self, folder: Path, every: int | None, identity: dict) -> None:
        self.folder, self.every, self._identity = folder, every, identity
        self.seeds: list[int] | None = None
        self.state: dict | None = None
        if (folder / files.MANIFEST).exists():
            self._read()

    def keep_seeds(self, drawn: Seeds) -> Seeds:
        """The seeds of the fit: those it began with, whatever `random_state` gives now."""
        self.seeds = self.seeds or list(drawn)
        return Seeds(*self.seeds)

    def is_due(self, n_steps: int) -> bool:
        """Whether to write within an epoch, after so many steps of the whole fit."""
        return self.every is not None and n_steps % self.every == 0

    def write(self, state: dict) -> None:
        """Keep a state; the one before stays until all of this one is on the disk."""
        packed, tensors = _as_stored(state)
        manifest = {"checkpoint": self._identity, "seeds": self.seeds, "state": packed}
        files.write(self.folder, manifest, tensors)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Whatever the state leads to while it is read, as our own error."""
        try:
            yield
        except CheckpointMismatch:
            raise
        except (InvalidArchive, ArchiveNotFound, KeyError, TypeError, ValueError) as error:
            raise CheckpointMismatch(
                f"checkpoint_dir={str(self.folder)!r} holds a state that cannot be read: {error} "
                "Delete the folder to start anew, or give another one."
            ) from error

    def _read(self) -> None:
        with self.reading():
            manifest, tensors = read_archive(self.folder)
            self._compare(manifest["checkpoint"])
            self.seeds = _checked_seeds(manifest["seeds"])
            self.state = _restored(manifest["state"], tensors)

    def _compare(self, identity: dict) -> None:
        then, now = (_LATER | fit["parameters"] for fit in (identity, self._identity))
        differ = [
            f"{name}={then.get(name)!r} (now {now.get(name)!r})"
            for name in sorted({*then, *now})
            if then.get(name) != now.get(name) and not _is_longer(name, then.get(name), now)
        ]
        differ += [
            f"other {said}"
            for name, said in _SAID.items()
            if identity.get(name) != self._identity[name]
        ]
        if differ:
            raise CheckpointMismatch(
                f"checkpoint_dir={str(self.folder)!r} holds a fit with {', '.join(differ)}. "
                "Nothing was changed there. Give each fit a folder of its own, or delete this one."
            )


class KeptFit:
    """The state of one fit in this process, for equal fits with more epochs.

    It is what a `Checkpoint` keeps, in a bounded cache in place of a folder. A fit that is not
    there, or has more epochs than are asked for, is trained anew.

    Parameters
    ----------
    identity : dict
        All that the result of the fit depends on, as JSON; see `identify`.
    max_iter : int
        Epochs that are asked for.
    """

    _NAMESPACE = "fit"

    def __init__(self, identity: dict, max_iter: int) -> None:
        parameters = {k: v for k, v in identity["parameters"].items() if k != "max_iter"}
        said = json.dumps(identity | {"parameters": parameters}, sort_keys=True)
        self._key: Content = content_of(said, torch.get_num_threads())
        self.state: dict | None = None
        known = self._known()
        if known is not None and known.n_epochs <= max_iter:
            self.state = _restored(known.packed, known.tensors)

    def keep_seeds(self, drawn: Seeds) -> Seeds:
        """The seeds of the fit, which are those of its `random_state`, a number."""
        return drawn

    def is_due(self, n_steps: int) -> bool:
        """Never: states are kept of whole epochs."""
        return False

    def reading(self) -> contextlib.AbstractContextManager[None]:
        """Nothing to tell: this process wrote the state."""
        return contextlib.nullcontext()

    def write(self, state: dict) -> None:
        """Keep a state in place of an earlier one of the same fit."""
        n_epochs, known = state["course"]["epoch"] - 1, self._known()
        if known is None or known.n_epochs < n_epochs:
            kept = _Kept(n_epochs, *_as_stored(state))
            size = len(kept.tensors) + 2000 * n_epochs + 5000  # what else there is, at the most
            process.FITS.put(self._NAMESPACE, self._key, kept, size, replace=True)

    def _known(self) -> _Kept | None:
        return process.FITS.get(self._NAMESPACE, [self._key])[0]


class _Kept(NamedTuple):
    """A state after so many epochs, as it is stored."""

    n_epochs: int
    packed: Any
    tensors: bytes


def _as_stored(state: dict) -> tuple[Any, bytes]:
    """A state as JSON knows it, and its tensors in the format of safetensors."""
    tensors: Tensors = {}
    packed = pack(state, tensors)
    return packed, safetensors.torch.save(tensors)


def _restored(packed: Any, tensors: bytes) -> dict:
    """The state that `_as_stored` gave, in values of its own."""
    return unpack(packed, safetensors.torch.load(tensors))


def _is_longer(name: str, then: Any, now: dict[str, Any]) -> bool:
    """Whether a fit is to go on for more epochs than it was begun with."""
    more = now.get(name)
    return name == "max_iter" and type(then) is int and type(more) is int and more > then


def _checked_seeds(seeds: Any) -> list[int] | None:
    is_list = isinstance(seeds, list) and len(seeds) == len(Seeds._fields)
    if seeds is not None and not (is_list and all(type(seed) is int for seed in seeds)):
        raise refused("its seeds are none")
    return seeds


def identify(
    kind: str, parameters: dict[str, Any], *, data: Any, start: Any, models: list[dict[str, str]]
) -> dict[str, Any]:
    """All that the result of a fit depends on, in a form that can be compared and shown.

    Parameters
    ----------
    kind : str, class of the estimator
    parameters : dict
    data : what is learned from, in a form that is equal for equal data
    start : dict of {name: ndarray}, weights to go on from, or None
    models : list of dict, hashes of the frozen models that are read
    """
    return {
        "estimator": kind,
        "parameters": {k: pack(plain(v), {}) for k, v in parameters.items() if k not in _FREE},
        "data": joblib.hash(data),
        "start": None if start is None else joblib.hash(start),
        "models": models,
    }


@contextlib.contextmanager
def open_checkpoint(folder: Path, every: int | None, identity: dict) -> Iterator[Checkpoint]:
    """The checkpoint of a fit, in a folder that no other process uses meanwhile.

    Raises
    ------
    CheckpointMismatch
        If the folder belongs to another fit, or is in use.
    NotWritten
        If the folder cannot be written.
    """
    with contextlib.ExitStack() as held:
        try:
            files.check_free(folder)
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(folder / files.LOCK, wait=False))
        except Busy as error:
            raise CheckpointMismatch(
                f"checkpoint_dir={str(folder)!r} is in use by another fit. Wait for it, or give "
                "each fit a folder of its own."
            ) from error
        except NotWritten:
            raise
        except OSError as error:
            raise NotWritten(
                f"checkpoint_dir={str(folder)!r} cannot be written ({error}). Give another folder."
            ) from error
        yield Checkpoint(folder, every, identity)
