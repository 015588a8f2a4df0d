"""Texts -> tokens. Each distinct text is tokenised once in a process."""

from __future__ import annotations

import copy
import re
import weakref
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, cast
from uuid import uuid4

import numpy as np

from sklopa._cache import process
from sklopa._inputs.texts import Row
from sklopa._tokens.template import MASK, PROMPT, USER, Template
from sklopa._tokens.tokens import Tokens
from sklopa.errors import InvalidParameter

# A word that no text holds, where the prompt stands while a text is cut into tokens.
_MARK = f"<prompt-{uuid4().hex}>"
_MARKED: weakref.WeakKeyDictionary[Any, tuple[Any, int]] = weakref.WeakKeyDictionary()


def special_texts(tokenizer: Any) -> tuple[str, ...]:
    """What a tokenizer reads as tokens of the model wherever it stands, as ``[SEP]``."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    texts = {str(token) for token in added if getattr(token, "special", False)}
    texts |= set(getattr(tokenizer, "all_special_tokens", ()))
    return tuple(sorted(texts - {""}))


def any_of(texts: Sequence[str]) -> re.Pattern | None:
    """What finds the first of some texts, the longest that begins there; None if there are none."""
    escaped = [re.escape(text) for text in sorted(texts, key=len, reverse=True)]
    return re.compile("|".join(escaped)) if escaped else None


class TextReader:
    """Reads texts with a tokenizer, within a token limit.

    Parameters
    ----------
    tokenizer : transformers tokenizer
    name : hashable
        Stands for the tokenizer in the cache.
    max_tokens : int or None
        Limit of tokens an input; longer ones lose the end that the tokenizer cuts.
    with_types : bool
        Whether the backbone reads token types.
    template : Template or None
    special_tokens : bool
        Whether a text may hold tokens of the model, as ``[SEP]``. Otherwise they are read as text.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        name: Hashable,
        max_tokens: int | None,
        with_types: bool,
        template: Template | None = None,
        special_tokens: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.with_types = with_types
        self.template = template
        self.special_tokens = special_tokens
        self.namespace = ("tokens", name, max_tokens, with_types, template, special_tokens)

    def read(self, rows: Sequence[Row]) -> tuple[list[Tokens], int]:
        """Tokens of each row, and how many rows were truncated."""
        pairs = process.TOKENS.compute(self.namespace, rows, self._tokenize, _size)
        return [tokens for tokens, _ in pairs], sum(cut for _, cut in pairs)

    def ids_of(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of texts by themselves, with none of the tokenizer's around them."""
        odd = [not self.special_tokens and self._holds_special(text) for text in texts]
        found: dict[bool, Iterator[list[int]]] = {}
        for as_text in {*odd}:
            chosen = [text for text, is_odd in zip(texts, odd, strict=True) if is_odd == as_text]
            with self._reading_as_text(as_text) as options:
                encoded = self.tokenizer(chosen, add_special_tokens=False, verbose=False, **options)
            found[as_text] = iter(encoded["input_ids"])
        return [next(found[as_text]) for as_text in odd]

    def _tokenize(self, rows: list[Row]) -> Iterator[tuple[int, tuple[Tokens, bool]]]:
        # Blocks keep the intermediate lists of the tokenizer small.
        for start in range(0, len(rows), 1024):
            block = rows[start : start + 1024]
            odd = [i for i, row in enumerate(block) if self._is_odd(row)]
            plain = sorted({*range(len(block))} - {*odd})
            for i, result in zip(plain, self._read_plain([block[i] for i in plain]), strict=True):
                yield start + i, result
            for i in odd:
                yield start + i, self._read_odd(block[i])

    def _read_plain(self, rows: list[Row]) -> Iterator[tuple[Tokens, bool]]:
        """Tokens of rows that hold no token of the model."""
        if not rows:
            return
        encoded = self._call(rows)
        for i, row in enumerate(rows):
            one, limit = {key: values[i] for key, values in encoded.items()}, self.max_tokens
            if limit is None or len(one["input_ids"]) <= limit:
                yield self._as_tokens(one), False
            elif self.template is not None and not getattr(self.tokenizer, "is_fast", False):
                yield self._by_pieces(row, self.template)  # it cannot tell where tokens end
            else:
                yield self._as_tokens(self._call_truncated(row, limit)), True

    def _read_odd(self, row: Row) -> tuple[Tokens, bool]:
        """Tokens of a row that holds what looks like tokens of the model."""
        if self.template is not None:
            return self._by_pieces(row, self.template)
        with self._reading_as_text(not self.special_tokens) as options:
            encoded, limit, is_cut = self._call([row], **options), self.max_tokens, False
            if limit is not None and len(encoded["input_ids"][0]) > limit:
                encoded = self._call([row], truncation=True, max_length=limit, **options)
                is_cut = True
        return self._as_tokens({key: values[0] for key, values in encoded.items()}), is_cut

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

    # ------------------------------------------------------------------ what looks like tokens

    @cached_property
    def _special(self) -> re.Pattern | None:
        return any_of(special_texts(self.tokenizer))

    def _is_odd(self, row: Row) -> bool:
        """Whether a row holds what looks like tokens of the model, and may not be read with them.

        Where they are meant as such, it is read like any other, unless a mask could be mistaken.
        """
        masked = self.template is not None and self.template.mask_id is not None
        return (masked or not self.special_tokens) and self._holds_special(*_parts(row))

    def _holds_special(self, *texts: str) -> bool:
        return self._special is not None and any(map(self._special.search, texts))

    @contextmanager
    def _reading_as_text(self, as_text: bool) -> Iterator[dict[str, Any]]:
        """Options for the tokenizer; a switch that they leave on is turned off again."""
        fast = getattr(self.tokenizer, "backend_tokenizer", None)
        before = getattr(fast, "encode_special_tokens", None)
        yield {"split_special_tokens": True} if as_text else {}
        if fast is not None and before is not None:
            fast.encode_special_tokens = before

    def _by_pieces(self, row: Row, template: Template) -> tuple[Tokens, bool]:
        """Tokens of a row in its template, where each piece is read by itself."""
        pieces = [(kind, self._piece(kind, text, template)) for kind, text in template.pieces(row)]
        before, after = self._around() if template.special_tokens else ([], [])
        of_user = [len(ids) for kind, ids in pieces if kind == USER]
        around = len(before) + len(after) + sum(len(ids) for _, ids in pieces) - sum(of_user)
        limit, is_cut = self.max_tokens, False
        if limit is not None and around + sum(of_user) > limit:
            if around > limit:
                raise self._no_room(template, around)
            room, is_cut = (limit - around) // max(1, len(of_user)), True
            pieces = [(k, self._end_cut(ids, room) if k == USER else ids) for k, ids in pieces]
        ids, places = [*before], {}
        for kind, piece in pieces:
            places[kind] = len(ids)
            ids += piece
        whole = np.asarray(ids + after, dtype=np.int64)
        types = np.zeros_like(whole) if self.with_types else None
        return Tokens(whole, types, places.get(MASK, -1), places.get(PROMPT, 0)), is_cut

    def _piece(self, kind: str, text: str, template: Template) -> list[int]:
        """Tokens of a piece: those of the model count as such in the template only."""
        if kind == PROMPT:
            return []
        if kind == MASK:
            return [cast("int", template.mask_id)]  # only those that have one have such a piece
        if kind == USER:
            return self.ids_of([text])[0]
        return self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    def _around(self) -> tuple[list[int], list[int]]:
        """Tokens that the tokenizer puts before a text and behind it."""
        encoded = self.tokenizer("a", return_special_tokens_mask=True, verbose=False)
        ids, mask = encoded["input_ids"], list(encoded["special_tokens_mask"])
        if 0 not in mask:
            return [], []
        first, last = mask.index(0), len(mask) - mask[::-1].index(0)
        return ids[:first], ids[last:]

    def _end_cut(self, items: Any, n: int) -> Any:
        """The n items that remain where the tokenizer cuts."""
        if self._cuts_start:
            return items[max(0, len(items) - n) :]
        return items[:n]

    @property
    def _cuts_start(self) -> bool:
        return getattr(self.tokenizer, "truncation_side", "right") == "left"

    # ------------------------------------------------------------------ texts that are too long

    def _call_truncated(self, row: Row, limit: int) -> dict[str, list]:
        if self.template is None:
            encoded = self._call([row], truncation=True, max_length=limit)
        else:
            encoded = self._call([self._shortened(row, self.template, limit)])
        return {key: values[0] for key, values in encoded.items()}

    def _shortened(self, row: Row, template: Template, limit: int) -> Row:
        """A row cut so far that the slot and the words around it remain."""
        parts = _parts(row)
        around = self._length_of(["" for _ in parts])
        room = max(0, limit - around) // len(parts)
        while True:
            cut = [self._some_tokens(part, room) for part in parts]
            length = self._length_of(cut)
            if length <= limit:
                return _as_row(cut)
            if room == 0:
                raise self._no_room(template, length)
            # Word boundaries moved at the seams; give back what was too much.
            room = max(0, room - (length - limit))

    def _no_room(self, template: Template, length: int) -> InvalidParameter:
        return InvalidParameter(
            f"the template {str(template)!r} alone takes {length} tokens and the limit "
            f"is {self.max_tokens}; shorten it or raise max_length"
        )

    def _length_of(self, parts: list[str]) -> int:
        return len(self._call([_as_row(parts)])["input_ids"][0])

    def _some_tokens(self, text: str, n: int) -> str:
        """As much of a text as n tokens hold, from the end that is not cut."""
        encoded = self.tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        places = encoded["offset_mapping"]
        if n >= len(places):
            return text
        if self._cuts_start:
            return text[places[-n][0] :] if n else ""
        return text[: places[n - 1][1] if n else 0]

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


def _parts(row: Row) -> list[str]:
    return [row] if isinstance(row, str) else list(row)


def _as_row(parts: list[str]) -> Row:
    """One text, or a pair."""
    return parts[0] if len(parts) == 1 else (parts[0], parts[1])


def _size(value: tuple[Tokens, bool]) -> int:
    return 2 * value[0].ids.nbytes + 300
