"""What lies beside a graph, read with the care that a stranger's files need. No torch is needed."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from sklopa._cache.content import sha256_of
from sklopa._onnx.preparation import Preparation
from sklopa._storage import files
from sklopa._storage.single_values import refused
from sklopa._storage.trust import check_template
from sklopa._tokens.template import Template

FORMAT = 1
_BESIDE = {
    "weights": re.compile(r"weights-[0-9a-f]{16}\.safetensors"),
    "tokenizer": re.compile(r"tokenizer-[0-9a-f]{16}\.json"),
}
_INPUT = re.compile(r"(row|text|pair)_(ids|mask|types)|row_pixels")
_MOST_GRAPH_BYTES = 1 << 31  # of a protobuf message


def graph_file(path: Path) -> Path:
    """The graph, whether its suffix was given or not."""
    return path if path.suffix == ".onnx" else path.with_name(path.name + ".onnx")


def manifest_file(path: Path) -> Path:
    """What says how a graph is read."""
    return graph_file(path).with_suffix(".json")


def read_manifest(path: Path) -> dict[str, Any]:
    """What lies beside a graph says, checked: nothing in it names a file elsewhere.

    Raises
    ------
    InvalidArchive
    FileNotFoundError
    """
    data = files.read_regular(manifest_file(path), files.MOST_MANIFEST_BYTES)
    if problem := files.too_long(data):
        raise refused(f"{manifest_file(path).name} {problem}")
    try:
        manifest = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise refused(f"{manifest_file(path).name} is no JSON") from error
    if not isinstance(manifest, dict) or manifest.get("sha256") != files.sum_of(manifest):
        raise refused(f"{manifest_file(path).name} differs from its own hash")
    if manifest.get("format") != FORMAT:
        raise refused(f"format {manifest.get('format')!r} is not known here, only {FORMAT}")
    _check_rules(manifest, _RULES)
    _check_rules(manifest, _READING_RULES[manifest["reads"]])
    labels = manifest["classes"]
    if labels is not None and len(labels["values"]) != manifest["n_outputs"]:
        raise refused(f"{len(labels['values'])} labels and {manifest['n_outputs']} outputs")
    return manifest


def _check_rules(manifest: dict[str, Any], rules: dict[str, Any]) -> None:
    """Refuse a manifest that has another value than it may have."""
    for name, fine in rules.items():
        if not fine(manifest.get(name)):
            raise refused(f"{name} is {str(manifest.get(name))[:80]!r}")


def read_graph(path: Path, manifest: dict[str, Any]) -> bytes:
    """The graph, whose external data is in the weights beside it and nowhere else."""
    data = files.read_regular(graph_file(path), _MOST_GRAPH_BYTES)
    if hashlib.sha256(data).hexdigest() != manifest["graph"]["sha256"]:
        raise refused(f"{graph_file(path).name} differs from what was written")
    name = manifest["weights"]["file"].encode()
    allowed = b"location\x12" + bytes([len(name)]) + name
    if data.count(b"location") != data.count(allowed):
        raise refused(f"{graph_file(path).name} reads files other than {name.decode()}")
    return data


def check_beside(path: Path, manifest: dict[str, Any], kind: str) -> Path:
    """A file that the manifest names, which holds what was written."""
    found = path.parent / manifest[kind]["file"]
    files.read_regular(found, n_bytes=0)
    if sha256_of(found) != manifest[kind]["sha256"]:
        raise refused(f"{found.name} differs from what was written")
    return found


def as_array(value: dict[str, Any]) -> np.ndarray:
    """Labels as they were."""
    if value["dtype"] == "|O":
        array = np.empty(len(value["values"]), dtype=object)
        array[:] = value["values"]
        return array
    return np.array(value["values"], dtype=value["dtype"])


def _is_file(kind: str) -> Any:
    def fine(value: Any) -> bool:
        return (
            isinstance(value, dict)
            and isinstance(value.get("file"), str)
            and _BESIDE[kind].fullmatch(value["file"]) is not None
            and isinstance(value.get("sha256"), str)
        )

    return fine


def _is_limit(value: Any) -> bool:
    return value is None or (type(value) is int and value > 0)


def _is_reading(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("limits"), dict):
        return False
    template = value.get("template")
    return (
        all(_is_limit(limit) for limit in value["limits"].values())
        and value["limits"].keys() <= {"row", "text", "pair"}
        and type(value.get("with_types")) is bool
        and type(value.get("stand_in")) is int
        and type(value.get("special_tokens")) is bool
        and value.get("truncation_side") in ("left", "right")
        and (template is None or _is_template(template))
    )


def _is_preparation(value: Any) -> bool:
    try:
        return Preparation.from_dict(value).shape is not None
    except (KeyError, TypeError, ValueError, AttributeError):
        return False


def _is_template(value: Any) -> bool:
    if not isinstance(value, dict) or value.keys() != {field.name for field in fields(Template)}:
        return False
    check_template(Template(**value))
    return True


def _is_labels(value: Any) -> bool:
    """None, or labels each a text, a truth value or a number."""
    if value is None:
        return True
    if not isinstance(value, dict) or not isinstance(value.get("values"), list):
        return False
    try:
        kind = np.dtype(value.get("dtype")).kind
    except TypeError:
        return False
    plain = all(isinstance(item, (str, bool, int, float)) for item in value["values"])
    return plain and kind in "OUbiuf" and len(value["values"]) >= 1


_RULES: dict[str, Any] = {
    "graph": lambda v: isinstance(v, dict) and isinstance(v.get("sha256"), str),
    "weights": _is_file("weights"),
    "reads": lambda v: v in ("texts", "images"),
    "inputs": lambda v: isinstance(v, list) and len(v) > 0
    and all(isinstance(name, str) and _INPUT.fullmatch(name) for name in v),
    "classes": _is_labels,
    "several_labels": lambda v: type(v) is bool,
    "n_columns": lambda v: v in (1, 2) and type(v) is int,
    "n_outputs": lambda v: type(v) is int and v > 0,
    "nulls": lambda v: v in ("error", "empty"),
    "names": lambda v: v is None
    or (isinstance(v, list) and all(isinstance(name, str) for name in v)),
}  # fmt: skip
_READING_RULES: dict[str, dict[str, Any]] = {
    "texts": {"tokenizer": _is_file("tokenizer"), "reading": _is_reading},
    "images": {"reading": _is_preparation},
}
