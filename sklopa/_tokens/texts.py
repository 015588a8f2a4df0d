"""Texts -> tokens. Each distinct text is tokenised once in a process."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Hashable, Iterator, Sequence
from typing import Any
from uuid import uuid4

import numpy as np

from sklopa._cache import process
from sklopa._inputs.texts import Row
from sklopa._tokens.template import Template
from sklopa._tokens.tokens import Tokens
from sklopa.errors import InvalidParameter

# A word that no text holds, where the prompt stands while a text is cut into tokens.
_MARK = f"<prompt-{uuid4().hex}>"
_MARKED: weakref.WeakKeyDictionary[Any, tuple[Any, int]] = weakref.WeakKeyDictionary()


class TextReader:
    """Reads texts with a tokenizer, within a token limit.

    Parameters
    ----------
    tokenizer : transformers tokenizer
    name : hashable
        Stands for the tokenizer in the cache.
    max_tokens : int or None
        Limit of tokens an input; longer ones lose their end.
    with_types : bool
        Whether the backbone reads token types.
    template : Template or None
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        name: Hashable,
        max_tokens: int | None,
        with_types: bool,
        template: Template | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.with_types = with_types
        self.template = template
        self.namespace = ("tokens", name, max_tokens, with_types, template)

    def read(self, rows: Sequence[Row]) -> tuple[list[Tokens], int]:
        """Tokens of each row, and how many rows were truncated."""
        pairs = process.TOKENS.compute(self.namespace, rows, self._tokenize, _size)
        return [tokens for tokens, _ in pairs], sum(cut for _, cut in pairs)

    def _tokenize(self, rows: list[Row]) -> Iterator[tuple[int, tuple[Tokens, bool]]]:
        # Blocks keep the intermediate lists of the tokenizer small.
        for start in range(0, len(rows), 1024):
            block = rows[start : start + 1024]
            for i, result in enumerate(self._tokenize_block(block)):
                yield start + i, result

    def _tokenize_block(self, rows: list[Row]) -> Iterator[tuple[Tokens, bool]]:
        encoded = self._call(rows)
        for i, row in enumerate(rows):
            one, limit = {key: values[i] for key, values in encoded.items()}, self.max_tokens
            if limit is not None and len(one["input_ids"]) > limit:
                yield self._as_tokens(self._call_truncated(row, limit)), True
            else:
                yield self._as_tokens(one), False

    def _call(self, rows: Sequence[Row], **options: Any) -> dict[str, list]:
        options |= {"return_token_type_ids": self.with_types, "return_attention_mask": False}
        if self.template is not None:
            return self._call_within(rows, self.template, options)
        firsts, seconds = rows, None
        if rows and isinstance(rows[0], tuple):
            firsts, seconds = map(list, zip(*rows, strict=True))
        return dict(self.tokenizer(firsts, seconds, verbose=False, **options))

    def _call_within(
        self, rows: Sequence[Row], template: Template, options: dict[str, Any]
    ) -> dict[str, list]:
        """Tokens of the template around rows, and how many of them stand before the prompt."""
        options["add_special_tokens"] = template.special_tokens
        if template.before is None:
            whole = [template.render(row) for row in rows]
            return dict(self.tokenizer(whole, None, verbose=False, **options))
        tokenizer, mark = _marked(self.tokenizer)
        whole = [template.render(row, _MARK) for row in rows]
        encoded = dict(tokenizer(whole, None, verbose=False, **options))
        encoded["prompt_at"] = [ids.index(mark) for ids in encoded["input_ids"]]
        for name in encoded.keys() - {"prompt_at"}:
            for values, place in zip(encoded[name], encoded["prompt_at"], strict=True):
                del values[place]
        return encoded

    def _call_truncated(self, row: Row, limit: int) -> dict[str, list]:
        if self.template is None:
            encoded = self._call([row], truncation=True, max_length=limit)
        else:
            encoded = self._call([self._shortened(row, self.template, limit)])
        return {key: values[0] for key, values in encoded.items()}

    def _shortened(self, row: Row, template: Template, limit: int) -> Row:
        """A row cut so far that the slot and the words around it remain."""
        parts = [row] if isinstance(row, str) else list(row)
        around = self._length_of(["" for _ in parts])
        room = max(0, limit - around) // len(parts)
        while True:
            cut = [self._first_tokens(part, room) for part in parts]
            length = self._length_of(cut)
            if length <= limit:
                return _as_row(cut)
            if room == 0:
                raise InvalidParameter(
                    f"the template {str(template)!r} alone takes {length} tokens and the limit "
                    f"is {limit}; shorten it or raise max_length"
                )
            # Word boundaries moved at the seams; give back what was too much.
            room = max(0, room - (length - limit))

    def _length_of(self, parts: list[str]) -> int:
        return len(self._call([_as_row(parts)])["input_ids"][0])

    def _first_tokens(self, text: str, n: int) -> str:
        encoded = self.tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        ends = [end for _, end in encoded["offset_mapping"]]
        return text if n >= len(ends) else text[: ends[n - 1] if n else 0]

    def _as_tokens(self, encoded: dict[str, Any]) -> Tokens:
        ids, types = encoded["input_ids"], encoded.get("token_type_ids")
        if not ids:  # a tokenizer without special tokens, given an empty text
            ids, types = [self.stand_in], None if types is None else [0]
        slot = -1
        if self.template is not None and self.template.mask_id is not None:
            slot = ids.index(self.template.mask_id) if self.template.mask_id in ids else -1
            if slot < 0:
                raise InvalidParameter(
                    f"the template {self.template.pattern!r} leaves no mask token within "
                    f"{self.max_tokens} tokens; shorten it or raise max_length"
                )
        as_array = lambda values: np.asarray(values, dtype=np.int64)  # noqa: E731
        types = None if types is None else as_array(types)
        return Tokens(as_array(ids), types, slot, encoded.get("prompt_at", 0))

    @property
    def stand_in(self) -> int:
        """The token that stands for a text without any."""
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            if getattr(self.tokenizer, name, None) is not None:
                return getattr(self.tokenizer, name)
        return 0


def _marked(tokenizer: Any) -> tuple[Any, int]:
    """A copy of a tokenizer that knows the mark of a prompt as one token, and that token.

    Servers mark the place in the same way: what stands on its two sides is cut into tokens apart,
    as parts of one text.
    """
    if tokenizer not in _MARKED:
        marked = copy.deepcopy(tokenizer)
        marked.add_special_tokens({"additional_special_tokens": [_MARK]})
        _MARKED[tokenizer] = marked, marked.convert_tokens_to_ids(_MARK)
    return _MARKED[tokenizer]


def _as_row(parts: list[str]) -> Row:
    """One text, or a pair."""
    return parts[0] if len(parts) == 1 else (parts[0], parts[1])


def _size(value: tuple[Tokens, bool]) -> int:
    return 2 * value[0].ids.nbytes + 300
