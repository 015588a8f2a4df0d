"""Text around an input: of a verbaliser, or of a chat."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from string import Formatter
from typing import Any

from sklopa._inputs.texts import Row

_PLACE = "SKLOPA-TEXT"  # where the text stands while a chat template is read


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

    def pieces(self, row: Row) -> Iterator[tuple[str | None, bool]]:
        """The same in pieces, each with whether it is of the user; None stands for the mask."""
        text, pair = (row, "") if isinstance(row, str) else row
        for literal, name, *_ in Formatter().parse(self.pattern):
            if literal:
                yield literal, False
            if name == "mask" and self.mask_id is not None:
                yield None, False
            elif name in ("text", "text_pair"):
                yield text if name == "text" else pair, True


def chat_template(tokenizer: Any, n_columns: int) -> Template | None:
    """The tokenizer's chat template around one user message, as a pattern; None if it has none."""
    if getattr(tokenizer, "chat_template", None) is None:
        return None
    message = {"role": "user", "content": _PLACE}
    pattern = tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
    slots = "{text}" if n_columns == 1 else "{text}\n{text_pair}"
    pattern = pattern.replace("{", "{{").replace("}", "}}").replace(_PLACE, slots)
    return Template(pattern, special_tokens=False)
