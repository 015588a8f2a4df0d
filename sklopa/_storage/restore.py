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

from sklopa._backbone.language import FrozenModel
from sklopa._inputs.rules import check_parameters
from sklopa._loading.description import Backbone
from sklopa._network.build import Design
from sklopa._storage.files import refused
from sklopa._storage.read import read_archive
from sklopa._storage.save import FOLDERS, FORMAT, LEFT_OUT, live_models, models_of, versions
from sklopa._storage.values import unpack
from sklopa._version import __version__
from sklopa.errors import ArchiveWarning, InvalidArchive

_KEYS = {
    "format", "estimator", "versions", "parameters", "attributes", "design", "models_used",
    "weights", "models", "sha256",
}  # fmt: skip
_ATTRIBUTES = {
    "classes_": np.ndarray, "n_features_in_": int, "feature_names_in_": np.ndarray, "n_iter_": int,
    "loss_curve_": list, "history_": list, "n_trainable_parameters_": int, "n_truncated_": int,
    "dtype_": str, "device_": str, "_sklopa_version": str, "_is_multilabel": bool,
}  # fmt: skip
_REMOTE_CODE = (
    "The archive asks to run code that comes with {model!r} (trust_remote_code), which a file "
    "cannot allow itself. If you have read that code, give "
    "load(path, {name}=Backbone({model!r}, trust_remote_code=True))."
)


def restore(
    path: Path, classes: dict[str, type], backbone: Backbone | None, encoder: Backbone | None
) -> Any:
    """The estimator of an archive, ready to predict.

    Parameters
    ----------
    classes : dict of the estimators that there are, by name
    backbone, encoder : where the frozen models are now, if not where they were

    Raises
    ------
    ArchiveNotFound, InvalidArchive
        If there is no archive, or it cannot be trusted.
    BackboneNotFound, UnsupportedBackbone
        If the frozen model that it needs is not there.
    """
    manifest, tensors = read_archive(path)
    _check_manifest(manifest, classes)
    _warn_ofversions(manifest["versions"])
    try:
        estimator = _rebuild(manifest, classes[manifest["estimator"]])
        weights = _read_weights(tensors)
    except Exception as error:  # a hostile manifest may break anything
        raise _as_refused(error) from error
    given = {"backbone": backbone, "encoder": encoder}
    estimator._design = _place(estimator, path, manifest.get("models") or {}, given)
    live = live_models(estimator._design)
    try:
        estimator._check_parameters()
        _check_design(estimator._design, estimator, live, weights)
        estimator._weights = weights
        _check_content(manifest["models_used"], live)
        estimator._live_network()
    except Exception as error:
        raise _as_refused(error) from error
    return estimator


def _as_refused(error: Exception) -> Exception:
    text = " ".join(str(error).split())[:300] or type(error).__name__
    return error if isinstance(error, InvalidArchive) else refused(text.rstrip("."))


def _check_manifest(manifest: dict, classes: dict[str, type]) -> None:
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
    if manifest["estimator"] not in list(classes):
        raise refused(
            f"it holds a {manifest['estimator']!r}; the estimators are {', '.join(classes)}"
        )


def _warn_ofversions(saved: dict[str, str]) -> None:
    here = versions()
    differ = [f"{k} {saved.get(k)} (here {here[k]})" for k in here if saved.get(k) != here[k]]
    if differ:
        warnings.warn(
            f"The archive was written with {', '.join(differ)}. Outputs may differ slightly.",
            ArchiveWarning,
            stacklevel=4,
        )


def _rebuild(manifest: dict, kind: type) -> Any:
    """An estimator with parameters, attributes and design as they were, without weights."""
    parameters = {name: unpack(value, {}) for name, value in manifest["parameters"].items()}
    if FOLDERS & set(parameters):
        raise refused("it names folders to write to")
    lacking = [name for name in kind._needed if name not in manifest["attributes"]]
    if lacking:
        raise refused(f"it lacks what a fitted {kind.__name__} has: {', '.join(lacking)}")
    estimator = kind(**parameters)
    for name, packed in manifest["attributes"].items():
        value = unpack(packed, {})
        of_class = getattr(kind, name, None)
        is_plain = name.strip("_").isidentifier() and not name.startswith("__")
        if not is_plain or name in LEFT_OUT or name in parameters or callable(of_class):
            raise refused(f"{name!r} is no fitted attribute")
        expected = _ATTRIBUTES.get(name, object)
        if not isinstance(value, expected) or (expected is int and type(value) is not int):
            raise refused(f"{name} must be of type {expected.__name__}; it is {value!r}")
        setattr(estimator, name, value)
    estimator._design = unpack(manifest["design"], {})
    if not isinstance(estimator._design, Design):
        raise refused("its design is none")
    return estimator


def _read_weights(data: bytes) -> dict[str, np.ndarray]:
    weights = safetensors.torch.load(data)
    for name, value in weights.items():
        if value.dtype != torch.float32 or not torch.isfinite(value).all():
            raise refused(f"weights {name} are {value.dtype}, or not all of them are finite")
    return {name: value.numpy() for name, value in weights.items()}


def _place(estimator: Any, path: Path, models: dict, given: dict) -> Design:
    """The design with its frozen models where they are now; parameters follow."""
    design = estimator._design
    now = {}
    for name, description in models_of(design).items():
        now[name] = given[name] or _where_it_is(name, description, path, models)
    if now["backbone"] is not design.backbone:
        estimator.model = now["backbone"]
        estimator.encoder = None if design.encoder == design.backbone else estimator.encoder
    if now.get("encoder", design.encoder) is not design.encoder:
        estimator.encoder = now["encoder"]
    for name, model in (("backbone", estimator.model), ("encoder", estimator.encoder)):
        if model is not given[name] and getattr(model, "trust_remote_code", False):
            raise InvalidArchive(_REMOTE_CODE.format(name=name, model=model.model))
    return replace(design, backbone=now["backbone"], encoder=now.get("encoder", now["backbone"]))


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


def _check_content(saved: dict[str, dict], live: dict[str, FrozenModel]) -> None:
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
    design: Design, estimator: Any, live: dict[str, FrozenModel], weights: dict[str, np.ndarray]
) -> None:
    """Refuse what would take more memory than the weights, or break in `predict`."""
    # A template is a text as a parameter, and an object in the design.
    shared = vars(design).keys() & estimator._rules.keys() - {"template"}
    rules = {name: estimator._rules[name] for name in shared}
    check_parameters("its design", vars(design), rules)
    frozen, n_stored = live["backbone"], sum(value.size for value in weights.values())
    n_rank = design.rank * design.prompt_length
    least = [design.n_outputs, design.prompt_length if design.gate != "instance" else 0]
    if design.reads_instances:
        least += [design.bottleneck * max(n_rank, design.rank * frozen.prompt_width)]
    if design.n_outputs < 0 or max(least) > n_stored:
        raise refused(f"its design asks for {max(least)} values, and {n_stored} are stored")
    if type(design.reserved) is not int or design.reserved < 0:
        raise refused(f"its design keeps {design.reserved!r} positions free")
    if type(design.n_views) is not int or not 1 <= design.n_views <= estimator._n_views:
        raise refused(f"its design reads {design.n_views!r} views of a row")
    estimator._check_room(design)
    classes = getattr(estimator, "classes_", None)
    if classes is not None and classes.shape != (design.n_outputs,):
        raise refused(f"it has {classes.size} classes and {design.n_outputs} outputs")
    if not all(0 <= i < frozen.embedding.num_embeddings for i in design.word_ids or ()):
        raise refused("a word of its verbaliser is not in the vocabulary")
    if design.word_ids is not None and len(design.word_ids) != design.n_outputs:
        raise refused(f"it has {len(design.word_ids)} words and {design.n_outputs} outputs")
    if design.template is not None:
        _check_template(design.template.pattern)


def _check_template(pattern: str) -> None:
    for _, name, form, conversion in Formatter().parse(pattern):
        if name not in (None, "text", "text_pair", "mask") or form or conversion:
            raise refused(f"its template {pattern[:40]!r} asks for more than texts")
