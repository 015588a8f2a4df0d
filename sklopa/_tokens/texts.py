"""Texts -> tokens. Each distinct text is tokenised once in a process."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sklopa._cache import process
from sklopa._cache.process import Row
from sklopa._tokens.batch import Tokens
from sklopa.errors import InvalidParameter, TruncationWarning


@dataclass(frozen=True)
class Template:
    """Text around an input, with a slot where a verbaliser reads.

    Attributes
    ----------
    pattern : str with ``{text}``, ``{text_pair}`` and, for a masked language model, ``{mask}``
    mask_token : str or None
        None for a causal language model, which is read after the last token.
    mask_id : int or None
    special_tokens : bool
        Whether the tokenizer adds its own; a chat template writes them out itself.
    """

    pattern: str
    mask_token: str | None = None
    mask_id: int | None = None
    special_tokens: bool = True

    def render(self, row: Row) -> str:
        """The pattern with `row` filled in."""
        text, pair = (row, "") if isinstance(row, str) else row
        return self.pattern.format(text=text, text_pair=pair, mask=self.mask_token or "")


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
        rendered = rows if self.template is None else [self.template.render(r) for r in rows]
        encoded = self._call(rendered)
        for i, row in enumerate(rows):
            cut = self.max_tokens is not None and len(encoded["input_ids"][i]) > self.max_tokens
            one = {key: values[i] for key, values in encoded.items()}
            yield self._as_tokens(self._call_truncated(row) if cut else one), cut

    def _call(self, rows: list[Row], **options: Any) -> dict[str, list]:
        firsts, seconds = rows, None
        if rows and isinstance(rows[0], tuple):
            firsts, seconds = map(list, zip(*rows, strict=True))
        options |= {"return_token_type_ids": self.with_types, "return_attention_mask": False}
        if self.template is not None:
            options["add_special_tokens"] = self.template.special_tokens
        return dict(self.tokenizer(firsts, seconds, verbose=False, **options))

    def _call_truncated(self, row: Row) -> dict[str, list]:
        if self.template is None:
            encoded = self._call([row], truncation=True, max_length=self.max_tokens)
        else:
            encoded = self._call([self._render_shortened(row)])
        return {key: values[0] for key, values in encoded.items()}

    def _render_shortened(self, row: Row) -> str:
        """The template with a text cut so far that the slot and the words around it remain."""
        parts = (row,) if isinstance(row, str) else row
        empty = "" if isinstance(row, str) else ("", "")
        around = len(self._call([self.template.render(empty)])["input_ids"][0])
        room = max(0, self.max_tokens - around) // len(parts)
        while True:
            cut = tuple(self._first_tokens(part, room) for part in parts)
            rendered = self.template.render(cut[0] if isinstance(row, str) else cut)
            length = len(self._call([rendered])["input_ids"][0])
            if length <= self.max_tokens:
                return rendered
            if room == 0:
                raise InvalidParameter(
                    f"the template {self.template.pattern!r} alone takes {length} tokens and the "
                    f"limit is {self.max_tokens}; shorten it or raise max_length"
                )
            # Word boundaries moved at the seams; give back what was too much.
            room = max(0, room - (length - self.max_tokens))

    def _first_tokens(self, text: str, n: int) -> str:
        encoded = self.tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        ends = [end for _, end in encoded["offset_mapping"]]
        return text if n >= len(ends) else text[: ends[n - 1] if n else 0]

    def _as_tokens(self, encoded: dict[str, list]) -> Tokens:
        ids, types = encoded["input_ids"], encoded.get("token_type_ids")
        if not ids:  # a tokenizer without special tokens, given an empty text
            ids, types = [self._stand_in()], None if types is None else [0]
        slot = -1
        if self.template is not None and self.template.mask_id is not None:
            slot = ids.index(self.template.mask_id) if self.template.mask_id in ids else -1
            if slot < 0:
                raise InvalidParameter(
                    f"the template {self.template.pattern!r} leaves no mask token within "
                    f"{self.max_tokens} tokens; shorten it or raise max_length"
                )
        as_array = lambda values: np.asarray(values, dtype=np.int64)  # noqa: E731
        return Tokens(as_array(ids), None if types is None else as_array(types), slot)

    def _stand_in(self) -> int:
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            if getattr(self.tokenizer, name, None) is not None:
                return getattr(self.tokenizer, name)
        return 0


def warn_truncated(
    n_truncated: int,
    n_rows: int,
    limit: int | None,
    what: str = "texts",
    remedy: str = "Raise max_length if the backbone allows it",
) -> None:
    """One warning a call when texts lost their end."""
    if n_truncated:
        warnings.warn(
            f"{n_truncated} of {n_rows} {what} are longer than the limit of {limit} tokens and "
            f"lost their end. {remedy}, or shorten the texts.",
            TruncationWarning,
            stacklevel=3,
        )


def _size(value: tuple[Tokens, bool]) -> int:
    return 2 * value[0].ids.nbytes + 300
