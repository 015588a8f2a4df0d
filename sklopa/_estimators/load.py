"""`load`: from a folder, a zip file or a hub repository back to an estimator."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from sklopa._estimators.classifier import LoPAClassifier
from sklopa._estimators.generator import LoPAGenerator
from sklopa._estimators.image_classifier import LoPAImageClassifier
from sklopa._estimators.regressor import LoPARegressor
from sklopa._inputs.rules import PATH
from sklopa._loading.description import Backbone, as_backbone
from sklopa.errors import InvalidArchive, InvalidParameter

_KINDS = (LoPAClassifier, LoPARegressor, LoPAGenerator, LoPAImageClassifier)
# Other kinds of files, by the end of their names, and what reads them.
_READERS = dict.fromkeys((".joblib", ".pkl", ".pickle"), "joblib.load") | {
    ".skops": "skops.io.load"
}
ESTIMATORS = {kind.__name__: kind for kind in _KINDS}


def load(
    path: str | PathLike,
    *,
    backbone: str | PathLike | Backbone | None = None,
    encoder: str | PathLike | Backbone | None = None,
    revision: str | None = None,
) -> Any:
    """A saved estimator, ready to predict. Nothing that is read is executed.

    All hashes are checked: those of the archive, and of the frozen model, which is loaded.

    Parameters
    ----------
    path : str or Path
        What `save` wrote: a folder or a zip file; or the id of a hub repository
        ("user/name") that `push_to_hub` filled.
    backbone, encoder : str, Path or Backbone, default=None
        Where the frozen models are now, if not where they were at fit. They must be the same.
    revision : str, default=None
        Branch, tag or commit of a hub repository.

    Returns
    -------
    A fitted estimator of the class that was saved.

    Raises
    ------
    ArchiveNotFound
        If there is no archive.
    InvalidArchive
        If it is damaged or hostile, or the frozen model is another one; the text says what.
    BackboneNotFound, UnsupportedBackbone
        If the frozen model is not there.

    Notes
    -----
    The hub is asked for "user/name" alone. What starts with ``.`` or ``/``, has a backslash or a
    second ``/``, or ends in ``.zip`` is a path, and so is every `Path`.

    Examples
    --------
    >>> import sklopa
    >>> clf = sklopa.load("clf.zip")  # doctest: +SKIP
    """
    from sklopa._storage.hub import fetch, looks_like_repository
    from sklopa._storage.restore import restore

    if not PATH.accepts(path):
        raise InvalidParameter(f"load: path must be {PATH.allowed}; got {path!r}")
    given = [None if model is None else as_backbone(model) for model in (backbone, encoder)]
    _check_name(Path(path))
    folder = fetch(str(path), revision) if looks_like_repository(path) else Path(path)
    record = restore(folder, {name: kind._schema() for name, kind in ESTIMATORS.items()}, *given)
    return ESTIMATORS[record.kind]._from_record(record)


def _check_name(path: Path) -> None:
    """Say what reads files of other kinds."""
    reader = _READERS.get(path.suffix.lower())
    if reader and not path.is_dir():
        raise InvalidArchive(
            f"load: {str(path)!r} is no archive of save by its name; nothing of it was read. For a "
            f"file from a source that you trust, use {reader}."
        )
