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
    truncation_side : {"left", "right"}
        The end that a text loses where it is too long.
    """

    is_fast = True

    def __init__(self, text: str, bos_token_id: int, truncation_side: str) -> None:
        from tokenizers import Tokenizer

        self.bos_token_id, self.truncation_side = bos_token_id, truncation_side
        self._tokenizer = Tokenizer.from_str(text)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._lock = threading.Lock()  # some of what a call asks for is set in the tokenizer

    @property
    def added_tokens_decoder(self) -> dict[int, Any]:
        """Tokens that were added to the vocabulary, by their ids."""
        return self._tokenizer.get_added_tokens_decoder()

    def __call__(
        self,
        firsts: Any,
        seconds: Any = None,
        *,
        add_special_tokens: bool = True,
        truncation: bool = False,
        max_length: int = 0,
        split_special_tokens: bool = False,
        return_token_type_ids: bool = True,
        **asked: Any,
    ) -> dict[str, list]:
        """Ids, types, offsets and marks of one text, or of a list of texts or pairs."""
        if isinstance(firsts, str):
            found = self([firsts], add_special_tokens=add_special_tokens)
            return {name: values[0] for name, values in found.items()}
        rows = firsts if seconds is None else list(zip(firsts, seconds, strict=True))
        with self._lock:
            self._tokenizer.encode_special_tokens = split_special_tokens
            if truncation:
                self._tokenizer.enable_truncation(
                    max_length, strategy="longest_first", direction=self.truncation_side
                )
            try:
                encoded = self._tokenizer.encode_batch(rows, add_special_tokens=add_special_tokens)
            finally:
                self._tokenizer.no_truncation()
        types = {"token_type_ids": [found.type_ids for found in encoded]}
        return {
            "input_ids": [found.ids for found in encoded],
            **(types if return_token_type_ids else {}),
            "offset_mapping": [found.offsets for found in encoded],
            "special_tokens_mask": [found.special_tokens_mask for found in encoded],
        }
