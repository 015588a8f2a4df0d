"""Labels -> words of the backbone's own vocabulary, and the template around a text."""

from __future__ import annotations

from collections.abc import Sequence
from string import Formatter
from typing import Any

from sklopa._backbone.language import FrozenModel
from sklopa._tokens.texts import Template
from sklopa.errors import InvalidParameter


def make_template(frozen: FrozenModel, pattern: str | None, n_columns: int) -> Template:
    """The template for texts (`n_columns` 1) or pairs (2); a plain one for None.

    Raises
    ------
    InvalidParameter
        If a slot is missing, unknown, or does not suit the model.
    UnsupportedBackbone
        If the checkpoint has no language-model head.
    """
    frozen.require_lm_head()
    masked = frozen.family.kind == "encoder"
    needed = ["text", "text_pair"][:n_columns] + (["mask"] if masked else [])
    if pattern is None:
        pattern = " ".join("{" + name + "}" for name in needed)
    try:
        slots = [name for _, name, _, _ in Formatter().parse(pattern) if name is not None]
    except ValueError as error:
        raise InvalidParameter(f"parameter template {pattern!r} cannot be read: {error}") from error
    if sorted(slots) != sorted(needed):
        kind = "a masked" if masked else "a causal"
        wanted = ", ".join("{" + name + "}" for name in needed)
        raise InvalidParameter(
            f"parameter template must hold each of {wanted} once, and nothing else in braces, "
            f"for {kind} language model; got {pattern!r}"
        )
    if not masked:
        return Template(pattern)
    return Template(pattern, frozen.tokenizer.mask_token, frozen.tokenizer.mask_token_id)


def word_ids(
    frozen: FrozenModel, classes: Sequence[Any], verbalizer: dict | None
) -> tuple[int, ...]:
    """The token that stands for each class.

    A masked language model fills one mask, so its words must be single tokens. For a causal one
    the first tokens count, and must differ.

    Raises
    ------
    InvalidParameter
        If a class has no word, or words cannot be told apart.
    """
    words = [str(label) for label in classes]
    if verbalizer is not None:
        missing = [label for label in classes if label not in verbalizer]
        if missing:
            raise InvalidParameter(f"parameter verbalizer has no word for label {missing[0]!r}")
        words = [str(verbalizer[label]) for label in classes]
    tokens = [_token_ids(frozen.tokenizer, word) for word in words]
    for word, ids in zip(words, tokens, strict=True):
        if not ids or (frozen.family.kind == "encoder" and len(ids) > 1):
            pieces = frozen.tokenizer.convert_ids_to_tokens(ids)
            raise InvalidParameter(
                f"parameter verbalizer: {word!r} is not one token of {frozen.name!r} but {pieces}; "
                "choose a commoner word for this label"
            )
    firsts = [ids[0] for ids in tokens]
    for i, first in enumerate(firsts):
        if first in firsts[:i]:
            raise InvalidParameter(
                f"parameter verbalizer: {words[firsts.index(first)]!r} and {words[i]!r} begin with "
                f"the same token of {frozen.name!r}; choose words that begin differently"
            )
    return tuple(firsts)


def _token_ids(tokenizer: Any, word: str) -> list[int]:
    # With the space, as the word stands inside a sentence; tokenizers that split on spaces
    # read both the same, and some keep the space as a token of its own.
    ids = tokenizer(" " + word, add_special_tokens=False, verbose=False)["input_ids"]
    alone = tokenizer(word, add_special_tokens=False, verbose=False)["input_ids"]
    return alone if len(alone) < len(ids) else ids
