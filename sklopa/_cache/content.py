"""What stands for content: digests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

# What a configuration says of where and when it was read, and not of what is computed.
_NOT_CONTENT = {
    "_name_or_path", "name_or_path", "_commit_hash", "transformers_version", "torch_dtype", "dtype",
    "_attn_implementation", "_attn_implementation_internal", "attn_implementation",
    "_attn_implementation_autoset", "special_tokens_map_file", "tokenizer_file", "cache_dir",
    "local_files_only", "is_local", "backend", "architectures",
}  # fmt: skip


class Content(NamedTuple):
    """Stands for values in a cache of the process: equal where they are."""

    digest: bytes


def content_of(*values: Any) -> Content:
    """What stands for arrays and plain values, all of them together and in this order."""
    digest = hashlib.blake2b(digest_size=16)
    for value in values:
        if isinstance(value, np.ndarray):
            digest.update(f"array {value.dtype.str} {value.shape} ".encode())
            digest.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
        else:
            text = repr(value).encode()
            digest.update(f"{type(value).__name__} {len(text)} ".encode())
            digest.update(text)
    return Content(digest.digest())


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def digest_of_config(config: Mapping[str, Any]) -> str:
    """SHA-256 of all in a configuration that outputs depend on.

    Where it was read from, precision and the choice of an attention kernel are left out: they are
    compared elsewhere, or may differ.

    Parameters
    ----------
    config : dict, as ``config.to_dict()`` gives it; of an image processor too
    """
    return _sha256_of_json(_content_of(config))


def digest_of_tokenizer(tokenizer: Any) -> str:
    """SHA-256 of all that decides which ids a tokenizer makes of a text.

    A fast tokenizer tells it whole, with normaliser, pre-tokeniser and post-processor; of one in
    Python, class, settings and vocabulary are taken.

    Parameters
    ----------
    tokenizer : transformers tokenizer
        A limit of length or padding that was set while it was used does not count.
    """
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is not None and hasattr(fast, "to_str"):
        rules = json.loads(fast.to_str())
        rules = {key: rules[key] for key in rules.keys() - {"truncation", "padding"}}
    else:
        settings = getattr(tokenizer, "init_kwargs", {})
        rules = {"settings": _content_of(settings), "vocabulary": tokenizer.get_vocab()}
    sides = {name: getattr(tokenizer, name, None) for name in ("padding_side", "truncation_side")}
    named = {"kind": type(tokenizer).__name__, "template": _template_of(tokenizer), **sides}
    return _sha256_of_json({"rules": rules, "special": _special_of(tokenizer), **named})


def _content_of(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _content_of(v) for k, v in value.items() if k not in _NOT_CONTENT}
    if isinstance(value, (list, tuple)):
        return [_content_of(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)


def _template_of(tokenizer: Any) -> Any:
    return _content_of(getattr(tokenizer, "chat_template", None))


def _special_of(tokenizer: Any) -> dict[str, Any]:
    return _content_of(getattr(tokenizer, "special_tokens_map", {}))


def _sha256_of_json(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
