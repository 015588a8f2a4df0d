"""A manifest and weights -> the estimator that was saved, with all that is checked on the way."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from string import Formatter
from typing import Any

import numpy as np
import safetensors.torch
import torch

from sklopa._backbone.frozen import Frozen
from sklopa._backbone.language import as_language_model
from sklopa._inputs.rules import check_parameters
from sklopa._loading.description import Backbone
from sklopa._network.build import check_room
from sklopa._network.design import Design
from sklopa._network.fitted import FittedNetwork
from sklopa._storage.files import refused
from sklopa._storage.read import read_archive
from sklopa._storage.record import Record, Schema
from sklopa._storage.save import FOLDERS, FORMAT, live_models, models_of, versions
from sklopa._storage.values import unpack
from sklopa._version import __version__
from sklopa.errors import ArchiveWarning, InvalidArchive

_KEYS = {
    "format", "estimator", "versions", "parameters", "attributes", "design", "models_used",
    "weights", "models", "sha256",
}  # fmt: skip
_REMOTE_CODE = (
    "The archive asks to run code that comes with {model!r} (trust_remote_code), which a file "
    "cannot allow itself. If you have read that code, give "
    "load(path, {name}=Backbone({model!r}, trust_remote_code=True))."
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
        _check_values(schema, parameters, attributes)
        design = unpack(manifest["design"], {})
        if not isinstance(design, Design):
            raise refused("its design is none")
        weights = _read_weights(tensors)
    except Exception as error:  # a hostile manifest may break anything
        raise _as_refused(error) from error
    given = {"backbone": backbone, "encoder": encoder}
    design, places = _place(design, parameters, path, manifest.get("models") or {}, given)
    network = FittedNetwork(design, weights)
    live = live_models(design)
    try:
        schema.check(parameters | places)
        _check_design(network, schema, attributes, live)
        _check_content(manifest["models_used"], live)
        network.live()
    except Exception as error:
        raise _as_refused(error) from error
    return Record(schema.kind, parameters | places, attributes, network)


def _as_refused(error: Exception) -> Exception:
    text = " ".join(str(error).split())[:300] or type(error).__name__
    return error if isinstance(error, InvalidArchive) else refused(text.rstrip("."))


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


def _check_values(schema: Schema, parameters: dict[str, Any], attributes: dict[str, Any]) -> None:
    """Raise unless a record holds what its class knows, and nothing else."""
    if FOLDERS & set(parameters):
        raise refused("it names folders to write to")
    lacking = sorted(set(schema.attributes) - schema.optional - set(attributes))
    if lacking:
        raise refused(f"it lacks what a fitted {schema.kind} has: {', '.join(lacking)}")
    for name, value in attributes.items():
        if name not in schema.attributes:
            raise refused(f"{name!r} is no fitted attribute")
        if not schema.attributes[name].accepts(value):
            allowed = schema.attributes[name].allowed
            raise refused(f"{name} must be {allowed}; it is {value!r}")


def _read_weights(data: bytes) -> dict[str, np.ndarray]:
    weights = safetensors.torch.load(data)
    for name, value in weights.items():
        if value.dtype != torch.float32 or not torch.isfinite(value).all():
            raise refused(f"weights {name} are {value.dtype}, or not all of them are finite")
    return {name: value.numpy() for name, value in weights.items()}


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
        if model.trust_remote_code:
            raise InvalidArchive(_REMOTE_CODE.format(name=name, model=model.model))
    placed = replace(design, backbone=now["backbone"], encoder=now.get("encoder", now["backbone"]))
    return placed, places


def _where_it_is(name: str, description: Backbone, path: Path, models: dict) -> Backbone:
    if name in models:
        folder = str((path / models[name]["folder"]).absolute())
        return replace(
            description, model=folder, revision=None, gguf_file=None, local_files_only=True,
            trust_remote_code=False,
        )  # fmt: skip
    if description.model.startswith("<live "):
        raise InvalidArchive(
            f"The estimator was fitted on live objects, {description.model}. Give them again "
            f"with load(path, {name}=Backbone.from_objects(model, tokenizer)), or save with "
            "include_backbone=True."
        )
    if description.trust_remote_code:
        raise InvalidArchive(_REMOTE_CODE.format(name=name, model=description.model))
    return description


def _check_content(saved: dict[str, dict], live: dict[str, Frozen[Any]]) -> None:
    """Say what differs between the frozen models of then and now."""
    for name, frozen in live.items():
        now = {"dtype": str(frozen.dtype), "revision": frozen.revision, **frozen.content}
        then = saved.get(name, {})
        same_dtype = then.get("dtype") == now["dtype"]
        wrong = [
            what
            for what in ("shapes", "vocabulary", *(["weights"] if same_dtype else []))
            if then.get(what) != now[what]
        ]
        if wrong:
            raise InvalidArchive(
                f"The {name} is not the one that the estimator was fitted on: {frozen.name!r} here "
                f"has other {' and '.join(wrong)} (revision {now['revision']}, fitted on "
                f"{then.get('revision')}). Give the right one with load(path, {name}=...)."
            )
        if not same_dtype:
            warnings.warn(
                f"The {name} was held in {then.get('dtype')} at fit and is in {now['dtype']} "
                f"here; outputs may differ slightly. Backbone(..., dtype=) sets it.",
                ArchiveWarning,
                stacklevel=4,
            )


def _check_design(
    network: FittedNetwork, schema: Schema, fitted: dict[str, Any], live: dict[str, Frozen[Any]]
) -> None:
    """Refuse what would take more memory than the weights, or break in `predict`."""
    design = network.design
    # A template is a text as a parameter, and an object in the design.
    shared = vars(design).keys() & schema.parameters.keys() - {"template"}
    rules = {name: schema.parameters[name] for name in shared}
    check_parameters("its design", vars(design), rules)
    n_stored = sum(value.size for value in network.weights.values())
    n_rank = design.rank * design.prompt_length
    least = [design.n_outputs, design.prompt_length if design.gate != "instance" else 0]
    if design.reads_instances:
        width = live["backbone"].prompt_width
        least += [design.bottleneck * max(n_rank, design.rank * width)]
    if design.n_outputs < 0 or max(least) > n_stored:
        raise refused(f"its design asks for {max(least)} values, and {n_stored} are stored")
    if type(design.reserved) is not int or design.reserved < 0:
        raise refused(f"its design keeps {design.reserved!r} positions free")
    if type(design.n_views) is not int or not 1 <= design.n_views <= schema.n_views:
        raise refused(f"its design reads {design.n_views!r} views of a row")
    check_room(design, schema.kind, schema.reads)
    _check_outputs(design, fitted)
    _check_words(design, live["backbone"])


def _check_outputs(design: Design, fitted: dict[str, Any]) -> None:
    """Raise unless what stands for the outputs of the network is there for each of them."""
    found = {
        "classes": len(fitted.get("classes_", range(design.n_outputs))),
        "columns": fitted.get("n_outputs_", design.n_outputs),
        "means": len(fitted.get("_target_mean", range(design.n_outputs))),
        "scales": len(fitted.get("_target_scale", range(design.n_outputs))),
    }
    for name, n in found.items():
        if n != design.n_outputs:
            raise refused(f"it has {n} {name} and {design.n_outputs} outputs")


def _check_words(design: Design, frozen: Frozen[Any]) -> None:
    words = design.word_ids
    if words is not None:
        n_tokens = as_language_model(frozen).embedding.num_embeddings
        if not all(0 <= i < n_tokens for i in words):
            raise refused("a word of its verbaliser is not in the vocabulary")
        if len(words) != design.n_outputs:
            raise refused(f"it has {len(words)} words and {design.n_outputs} outputs")
    if design.template is not None:
        _check_template(design.template.pattern)


def _check_template(pattern: str) -> None:
    for _, name, form, conversion in Formatter().parse(pattern):
        if name not in (None, "text", "text_pair", "mask") or form or conversion:
            raise refused(f"its template {pattern[:40]!r} asks for more than texts")
