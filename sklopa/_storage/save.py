"""A fitted estimator -> a manifest and weights."""

from __future__ import annotations

import importlib.metadata
from functools import partial
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from sklopa._backbone.frozen import Frozen
from sklopa._loading.description import Backbone
from sklopa._loading.live import live_model, write_model
from sklopa._network.design import Design
from sklopa._storage import files
from sklopa._storage.record import Record
from sklopa._storage.values import pack
from sklopa._version import __version__
from sklopa.errors import InvalidInput, InvalidParameter

FORMAT = 1
_LIBRARIES = ("scikit-learn", "torch", "transformers")
# Parameters that name folders of one machine; a stranger's would be written to.
FOLDERS = {"memory", "checkpoint_dir"}


def save(record: Record, path: Path, include_backbone: bool) -> None:
    """Write a fitted estimator to a folder, or to a zip file where the name ends so.

    Raises
    ------
    InvalidInput
        If the estimator holds something that cannot be written without a pickle.
    NotWritten
        If the disk refuses.
    """
    if include_backbone and path.suffix == ".zip":
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
    carried = {name: value for name, value in record.parameters.items() if name not in FOLDERS}
    return {
        "format": FORMAT,
        "estimator": record.kind,
        "versions": versions(),
        "models_used": {
            name: {"dtype": str(frozen.dtype), "revision": frozen.revision, **frozen.content}
            for name, frozen in live_models(design).items()
        },
        "parameters": _pack_each(carried, "parameter"),
        "attributes": _pack_each(record.attributes, "attribute"),
        "design": pack(design, {}),
    }


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


def models_of(design: Design) -> dict[str, Backbone]:
    """Descriptions of the frozen models that a design reads, each once."""
    models = {"backbone": design.backbone}
    if design.reads_instances and design.encoder != design.backbone:
        models["encoder"] = design.encoder
    return models


def live_models(design: Design) -> dict[str, Frozen[Any]]:
    """The frozen models that a design reads, loaded."""
    return {name: live_model(used) for name, used in models_of(design).items()}
