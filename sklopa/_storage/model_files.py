"""Settings of a model that came in an archive: what in them would make transformers run code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sklopa._loading.description import ATTENTION
from sklopa._storage.files import read_regular
from sklopa._storage.single_values import refused

# A tokenizer alone may have some tens of megabytes; settings, where these names stand, have not.
_MOST_BYTES = 64 << 20
_ATTENTION_KEYS = {
    "attn_implementation", "_attn_implementation", "_attn_implementation_internal",
}  # fmt: skip


def check_model_settings(folder: Path) -> None:
    """Raise if a settings file names code of its own, or attention that is fetched.

    Raises
    ------
    InvalidArchive
    """
    for path in sorted(folder.rglob("*.json")):
        if path.name.endswith(("config.json", "processor.json")):
            try:
                settings = json.loads(read_regular(path, _MOST_BYTES))
            except (ValueError, RecursionError) as error:
                raise refused(f"{path.name} cannot be read: {error}") from error
            for name, value in _pairs(settings):
                _check_setting(path.name, name, value)


def _check_setting(file: str, name: str, value: Any) -> None:
    if name == "auto_map":
        raise refused(f"{file} names code that comes with the model (auto_map)")
    if name in _ATTENTION_KEYS:
        used = value.values() if isinstance(value, dict) else [value]
        odd = [each for each in used if not (each is None or each in ATTENTION)]
        if odd:
            raise refused(f"{file} asks for {name}={str(odd[0])[:80]!r}, which would be fetched")


def _pairs(settings: Any) -> Iterator[tuple[str, Any]]:
    """All names and values in a settings file, at any depth."""
    todo = [settings]
    while todo:
        node = todo.pop()
        if isinstance(node, dict):
            yield from node.items()
            todo += node.values()
        elif isinstance(node, list):
            todo += node
