"""A fitted estimator -> a manifest and weights."""

from __future__ import annotations

import importlib.metadata
from functools import partial
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from sklopa._loading.live import write_model
from sklopa._network.models import live_models, models_of, told_of
from sklopa._storage import files
from sklopa._storage.record import Record, Schema
from sklopa._storage.single_values import REFUSED, STORED_REQUESTS, check_requests
from sklopa._storage.trust import FOLDERS, check_network, check_weights
from sklopa._storage.trust import check_record as check_values
from sklopa._storage.values import pack
from sklopa._version import __version__
from sklopa.errors import InvalidInput, InvalidParameter

FORMAT = 1
_LIBRARIES = ("scikit-learn", "torch", "transformers")


def save(record: Record, path: Path, include_backbone: bool) -> None:
    """Write a fitted estimator to a folder, or to a zip file where the name ends so.

    Raises
    ------
    InvalidInput
        If the estimator holds something that cannot be written without a pickle.
    NotWritten
        If the disk refuses.
    """
    if include_backbone and files.is_zip(path):
        raise InvalidParameter(
            "save: include_backbone=True writes a folder, from which the model loads; give a path "
            f"without .zip, or include_backbone=False. Got {str(path)!r}"
        )
    weights = {name: torch.tensor(value) for name, value in record.network.weights.items()}
    models: files.Models = {}
    if include_backbone:
        used = models_of(record.network.design)
        models = {name: partial(write_model, model) for name, model in used.items()}
    files.write(path, _describe(record), safetensors.torch.save(weights), models)


def _describe(record: Record) -> dict[str, Any]:
    """All of the manifest that does not depend on how it is stored."""
    design = record.network.design
    carried = _carried(record)
    asked = {STORED_REQUESTS: record.requests} if record.requests else {}
    return {
        "format": FORMAT,
        "estimator": record.kind,
        "versions": versions(),
        "models_used": told_of(live_models(design)),
        "parameters": _pack_each(carried, "parameter"),
        "attributes": _pack_each(record.attributes | asked, "attribute"),
        "design": pack(design, {}),
    }


def _carried(record: Record) -> dict[str, Any]:
    """The parameters that an archive holds: all but folders of this machine."""
    return {name: value for name, value in record.parameters.items() if name not in FOLDERS}


def check_record(record: Record, schema: Schema) -> None:
    """Refuse to save what `load` would refuse.

    Raises
    ------
    InvalidInput
        If the estimator is of a class of the user's own, or was changed after `fit`.
    """
    parameters = _carried(record)
    for values, what in ((parameters, "parameter"), (record.attributes, "attribute")):
        _pack_each(values, what)
    if not schema.is_ours:
        raise InvalidInput(
            f"{record.kind} is a class of your own, which sklopa.load does not know; nothing was "
            "written. Use joblib.dump for the whole, or fit one of the estimators of sklopa."
        )
    try:
        schema.check(record.parameters)
        check_values(schema, parameters, record.attributes)
        check_requests(record.requests)
        check_weights(record.network.weights)
        check_network(schema, record.attributes, record.network)
    except InvalidParameter:
        raise
    except Exception as error:
        reason = str(error).removeprefix(REFUSED).split(". Nothing of it")[0]
        raise InvalidInput(
            f"This {record.kind} is not as fit left it, and would not load: {reason}. Nothing was "
            "written; fit it again, or undo the change."
        ) from error


def _pack_each(values: dict[str, Any], what: str) -> dict[str, Any]:
    packed = {}
    for name, value in values.items():
        try:
            packed[name] = pack(value, {})
        except TypeError as error:
            raise InvalidInput(
                f"{what} {name} cannot be saved without a pickle: {error}. Use texts, numbers, "
                "dates or bytes there, or joblib.dump for the whole."
            ) from error
    return packed


def versions() -> dict[str, str]:
    """Versions of sklopa and of the libraries that outputs depend on."""
    found = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {"sklopa": __version__} | found
