"""A manifest and weights -> the estimator that was saved, with all that is checked on the way."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from sklopa._backbone.frozen import Frozen
from sklopa._backbone.language import as_language_model
from sklopa._loading.description import ATTENTION, Backbone, allowed_by_caller
from sklopa._network.build import check_room
from sklopa._network.design import Design
from sklopa._network.fitted import FittedNetwork
from sklopa._network.models import compare, live_models, models_of
from sklopa._storage.read import check_models, read_archive
from sklopa._storage.record import Record, Schema
from sklopa._storage.save import FORMAT, versions
from sklopa._storage.single_values import STORED_REQUESTS, as_refused, refused
from sklopa._storage.trust import check_network, check_record, check_sizes, check_weights
from sklopa._storage.values import unpack
from sklopa._version import __version__
from sklopa.errors import ArchiveWarning, InvalidArchive

_KEYS = {
    "format", "estimator", "versions", "parameters", "attributes", "design", "models_used",
    "weights", "models", "sha256",
}  # fmt: skip
_REMOTE_CODE = (
    "The archive asks to run code that comes with {model!r} ({option}), which a file "
    "cannot allow itself. If you have read that code, give "
    "load(path, {name}=Backbone({model!r}, {option}))."
)


def restore(
    path: Path, schemas: dict[str, Schema], backbone: Backbone | None, encoder: Backbone | None
) -> Record:
    """The record of an archive, with a network that is ready to predict.

    Parameters
    ----------
    schemas : dict of what the estimators that there are may hold, by name
    backbone, encoder : where the frozen models are now, if not where they were

    Raises
    ------
    ArchiveNotFound, InvalidArchive
        If there is no archive, or it cannot be trusted.
    BackboneNotFound, UnsupportedBackbone
        If the frozen model that it needs is not there.
    """
    manifest, tensors = read_archive(path)
    _check_manifest(manifest, list(schemas))
    _warn_of_versions(manifest["versions"])
    schema = schemas[manifest["estimator"]]
    try:
        parameters = {name: unpack(value, {}) for name, value in manifest["parameters"].items()}
        attributes = {name: unpack(value, {}) for name, value in manifest["attributes"].items()}
        check_record(schema, parameters, attributes)
        requests = attributes.pop(STORED_REQUESTS, {})
        design = unpack(manifest["design"], {})
        if not isinstance(design, Design):
            raise refused("its design is none")
        network = FittedNetwork(design, _read_weights(tensors))
        check_network(schema, attributes, network)
    except Exception as error:  # a hostile manifest may break anything
        raise as_refused(error) from error
    given = {"backbone": backbone, "encoder": encoder}
    design, places = _place(design, parameters, path, manifest.get("models") or {}, given)
    network = FittedNetwork(design, network.weights)
    live = live_models(design)
    try:
        schema.check(parameters | places)
        _check_live(network, schema, live)
        _check_content(manifest["models_used"], live, manifest["versions"])
        check_models(path, manifest)
        network.live()
    except Exception as error:
        raise as_refused(error) from error
    return Record(schema.kind, parameters | places, attributes, network, requests)


def _check_manifest(manifest: dict, kinds: list[str]) -> None:
    if manifest.get("format") != FORMAT:
        raise InvalidArchive(
            f"The archive has format {manifest.get('format')!r}; this sklopa {__version__} reads "
            f"format {FORMAT}. Install the version that wrote it, or a newer one."
        )
    unknown, missing = set(manifest) - _KEYS, _KEYS - set(manifest) - {"models"}
    if unknown or missing:
        raise refused(f"its manifest has keys {sorted(unknown)} and lacks {sorted(missing)}")
    tables = ("versions", "parameters", "attributes", "models_used", "design")
    wrong = [name for name in tables if not isinstance(manifest[name], dict)]
    if wrong:
        raise refused(f"{wrong[0]} is no table")
    if manifest["estimator"] not in kinds:
        raise refused(
            f"it holds a {manifest['estimator']!r}; the estimators are {', '.join(kinds)}"
        )


def _warn_of_versions(saved: dict[str, str]) -> None:
    here = versions()
    differ = [f"{k} {saved.get(k)} (here {here[k]})" for k in here if saved.get(k) != here[k]]
    if differ:
        warnings.warn(
            f"The archive was written with {', '.join(differ)}. Outputs may differ slightly.",
            ArchiveWarning,
            stacklevel=4,
        )


def _read_weights(data: bytes) -> dict[str, np.ndarray]:
    weights = safetensors.torch.load(data)
    for name, value in weights.items():  # numpy has not all types that torch has
        if value.dtype != torch.float32:
            raise refused(f"weights {name} are {value.dtype}, not torch.float32")
    return check_weights({name: value.numpy() for name, value in weights.items()})


def _place(
    design: Design, parameters: dict[str, Any], path: Path, models: dict, given: dict
) -> tuple[Design, dict[str, Any]]:
    """The design with its frozen models where they are now, and the parameters that name them."""
    now = {
        name: given[name] or _where_it_is(name, description, path, models)
        for name, description in models_of(design).items()
    }
    places: dict[str, Any] = {}
    if now["backbone"] is not design.backbone:
        places["model"] = now["backbone"]
        if design.encoder == design.backbone:
            places["encoder"] = None
    if now.get("encoder", design.encoder) is not design.encoder:
        places["encoder"] = now["encoder"]
    for name, parameter in (("backbone", "model"), ("encoder", "encoder")):
        model = (parameters | places).get(parameter)
        if not isinstance(model, Backbone) or model is given[name]:
            continue
        _check_allowed(name, model)
    placed = replace(design, backbone=now["backbone"], encoder=now.get("encoder", now["backbone"]))
    return placed, places


def _where_it_is(name: str, description: Backbone, path: Path, models: dict) -> Backbone:
    if name in models:
        folder = str((path / models[name]["folder"]).absolute())
        return replace(
            description, model=folder, revision=None, gguf_file=None, local_files_only=True,
            trust_remote_code=False, attn_implementation=_listed(description.attn_implementation),
        )  # fmt: skip
    if description.model.startswith("<live "):
        raise InvalidArchive(
            f"The estimator was fitted on live objects, {description.model}. Give them again "
            f"with load(path, {name}=Backbone.from_objects(model, tokenizer)), or save with "
            "include_backbone=True."
        )
    _check_allowed(name, description)
    return description


def _listed(attention: str | None) -> str | None:
    return attention if attention in ATTENTION else None


def _check_allowed(name: str, model: Backbone) -> None:
    """Raise where a file asks for what only the caller can allow."""
    if option := allowed_by_caller(model):
        raise InvalidArchive(_REMOTE_CODE.format(name=name, model=model.model, option=option))


def _check_content(
    saved: dict[str, dict], live: dict[str, Frozen[Any]], written_with: dict[str, str]
) -> None:
    """Say what differs between the frozen models of then and now."""
    for name, frozen in live.items():
        wrong, other = compare(name, saved.get(name, {}), frozen, written_with.get("transformers"))
        if wrong:
            raise InvalidArchive(f"{wrong} Give the right one with load(path, {name}=...).")
        if other:
            warnings.warn(other, ArchiveWarning, stacklevel=4)


def _check_live(network: FittedNetwork, schema: Schema, live: dict[str, Frozen[Any]]) -> None:
    """Refuse what only the frozen model can tell to break in `predict`."""
    design, frozen = network.design, live["backbone"]
    check_sizes(design, network.weights, frozen.prompt_width)
    check_room(design, schema.kind, schema.reads)
    if design.word_ids is not None:
        n_tokens = as_language_model(frozen).embedding.num_embeddings
        if not all(0 <= i < n_tokens for i in design.word_ids):
            raise refused("a word of its verbaliser is not in the vocabulary")
