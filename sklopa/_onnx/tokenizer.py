"""A tokenizer of one file, called as `TextReader` calls it. It needs no transformers."""

from __future__ import annotations

import threading
from typing import Any


class FileTokenizer:
    """A tokenizer as the tokenizers package stores it.

    Parameters
    ----------
    text : str
        The content of a tokenizer.json.
    bos_token_id : int
        Stands for an empty text where the tokenizer adds nothing of its own.
    """

    def __init__(self, text: str, bos_token_id: int) -> None:
        from tokenizers import Tokenizer

        self.bos_token_id = bos_token_id
        self._tokenizer = Tokenizer.from_str(text)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._lock = threading.Lock()  # truncation is a setting of the tokenizer

    def __call__(
        self,
        firsts: Any,
        seconds: Any = None,
        *,
        add_special_tokens: bool = True,
        truncation: bool = False,
        max_length: int = 0,
        return_offsets_mapping: bool = False,
        **other: Any,
    ) -> dict[str, list]:
        """Ids, types and perhaps offsets: of one text, or of a list of texts or pairs."""
        if isinstance(firsts, str):
            found = self([firsts], None, add_special_tokens=add_special_tokens,
                         return_offsets_mapping=return_offsets_mapping)  # fmt: skip
            return {name: values[0] for name, values in found.items()}
        rows = firsts if seconds is None else list(zip(firsts, seconds, strict=True))
        with self._lock:
            if truncation:
                self._tokenizer.enable_truncation(max_length, strategy="longest_first")
            try:
                encoded = self._tokenizer.encode_batch(rows, add_special_tokens=add_special_tokens)
            finally:
                self._tokenizer.no_truncation()
        found = {"input_ids": [e.ids for e in encoded]}
        if other.get("return_token_type_ids"):
            found["token_type_ids"] = [e.type_ids for e in encoded]
        if return_offsets_mapping:
            found["offset_mapping"] = [e.offsets for e in encoded]
        return found
