"""Text around an input, of a verbaliser or of a chat, and where the prompt stands in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from string import Formatter
from typing import Any

from sklopa._inputs.texts import Row
from sklopa.errors import InvalidParameter

# What stands for the prompt, and for the text, while a chat template is read.
_PROMPT, _TEXT = "SKLOPA-PROMPT", "SKLOPA-TEXT"
# Kinds of pieces: words of the template, texts of the user, the mask, and where the prompt stands.
WORDS, USER, MASK, PROMPT = "words", "user", "mask", "prompt"
Piece = tuple[str, str]


@dataclass(frozen=True)
class Template:
    """Text around an input, with a slot where a verbaliser reads.

    In a chat the prompt stands at the start of the user's message; else in front of everything.

    Attributes
    ----------
    pattern : str with ``{text}``, ``{text_pair}`` and, for a masked language model, ``{mask}``
    mask_token : str or None
        None for a causal language model, which is read after the last token.
    mask_id : int or None
    special_tokens : bool
        Whether the tokenizer adds its own; a chat template writes them out itself.
    before : str or None
        What a chat has in front of the prompt; None where the prompt comes first.
    joint, behind : str
        What stands in front of the filled-in pattern, and behind it.
    trims : {"", "l", "r", "lr"}
        Ends of the filled-in pattern that lose their white space.
    """

    pattern: str
    mask_token: str | None = None
    mask_id: int | None = None
    special_tokens: bool = True
    before: str | None = None
    joint: str = ""
    behind: str = ""
    trims: str = ""

    def message(self, row: Row) -> str:
        """The pattern with `row` filled in: in a chat, what the user says."""
        text, pair = (row, "") if isinstance(row, str) else row
        return self.pattern.format(text=text, text_pair=pair, mask=self.mask_token or "")

    def render(self, row: Row, prompt: str = "") -> str:
        """The whole text around `row`, with `prompt` where the prompt stands."""
        return self._around(self.message(row), prompt)

    def pieces(self, row: Row) -> Iterator[Piece]:
        """The same in pieces, each with its kind; mask and prompt have no text."""
        said = list(self._said(row))
        if "l" in self.trims:
            said = _stripped(said, str.lstrip)
        if "r" in self.trims:
            said = _stripped(said[::-1], str.rstrip)[::-1]
        if self.before is not None:
            yield WORDS, self.before
            yield PROMPT, ""
        if self.joint and (said or self.before is None):
            yield WORDS, self.joint
        yield from said
        if self.behind:
            yield WORDS, self.behind

    def _said(self, row: Row) -> Iterator[Piece]:
        text, pair = (row, "") if isinstance(row, str) else row
        for words, name, *_ in Formatter().parse(self.pattern):
            if words:
                yield WORDS, words
            if name == "mask" and self.mask_id is not None:
                yield MASK, ""
            elif name in ("text", "text_pair"):
                yield USER, text if name == "text" else pair

    def __str__(self) -> str:
        return self._around(self.pattern)

    def _around(self, said: str, prompt: str = "") -> str:
        said = said.lstrip() if "l" in self.trims else said
        if self.before is None:
            return self.joint + self._trimmed(said) + self.behind
        said = self.joint + said if said else ""  # a message of nothing has no joint
        return self.before + prompt + self._trimmed(said) + self.behind

    def _trimmed(self, said: str) -> str:
        return said.rstrip() if "r" in self.trims else said


def _stripped(pieces: list[Piece], strip: Callable[[str], str]) -> list[Piece]:
    """Pieces without the white space that they begin with."""
    for i, (kind, text) in enumerate(pieces):
        if kind == MASK or strip(text):
            return [(kind, strip(text)), *pieces[i + 1 :]]
    return []


def chat_template(tokenizer: Any, pattern: str, *, prompted: bool = True) -> Template | None:
    """A tokenizer's chat template around one message of the user; None if it has none.

    Parameters
    ----------
    tokenizer : transformers tokenizer
    pattern : str, what the user says
    prompted : bool
        Whether a prompt stands in the message.

    Raises
    ------
    InvalidParameter
        If the template does not repeat a message.
    """
    if getattr(tokenizer, "chat_template", None) is None:
        return None
    by_parts = f"{_PROMPT}{_TEXT}" in _with_parts(tokenizer, [_PROMPT, _TEXT])
    lead = [_PROMPT] if prompted else []
    # Servers give a template that knows no parts one text, of a line for each part.
    joint = "\n" if prompted and not by_parts else ""

    def shown(text: str) -> str:
        if by_parts:
            return _with_parts(tokenizer, [*lead, text])
        return _rendered(tokenizer, joint.join([*lead, text]))

    around = shown(_TEXT).split(joint.join([*lead, _TEXT]))
    if len(around) != 2:
        raise InvalidParameter(
            "The tokenizer's chat template does not repeat what a user says once and unchanged, "
            "so the prompt has no place in it. Use chat_template=None."
        )
    before, behind = around
    spaced = shown(f" {_TEXT} ")
    trims = "" if spaced.startswith(before + joint.join([*lead, f" {_TEXT}"])) else "l"
    trims += "" if spaced.endswith(f"{_TEXT} {behind}") else "r"
    chat = Template(pattern, special_tokens=False, behind=behind, trims=trims)
    if not prompted:
        return replace(chat, joint=before)
    return replace(chat, before=before, joint=joint)


def _with_parts(tokenizer: Any, texts: list[str]) -> str:
    """What the template makes of a message in parts; nothing if it knows no parts."""
    try:
        return _rendered(tokenizer, [{"type": "text", "text": text} for text in texts])
    except Exception:  # it may fail in any way: the template is not ours
        return ""


def _rendered(tokenizer: Any, content: Any) -> str:
    message = {"role": "user", "content": content}
    return tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
