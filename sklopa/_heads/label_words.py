"""Label words: words of the backbone's own vocabulary that stand for labels, and their head."""

from __future__ import annotations

from collections.abc import Sequence
from string import Formatter
from typing import Any

import torch
from torch import Tensor

from sklopa._backbone.language import FrozenLanguageModel, states_of
from sklopa._batches.rows import Batch
from sklopa._heads.head import StateHead
from sklopa._tokens.template import Template
from sklopa.errors import InvalidParameter


class VerbalizerHead(StateHead):
    """The frozen language-model head, read at one token, for one word a class.

    Nothing in it is trained. The token is the mask of a masked language model, or the last
    token of the template for a causal one.

    Parameters
    ----------
    frozen : FrozenLanguageModel
    word_ids : list of int, length C
        Token that stands for each class.
    """

    frozen: FrozenLanguageModel
    word_ids: Tensor

    def __init__(self, frozen: FrozenLanguageModel, word_ids: list[int]) -> None:
        super().__init__(frozen)
        self.register_buffer("word_ids", torch.tensor(word_ids), persistent=False)

    def features(self, states: Tensor, batch: Batch) -> Tensor:
        """The state that the language-model head reads: (B, D)."""
        return states_of(states, batch.texts.slot)

    def forward(self, features: Tensor) -> Tensor:
        """Logits of the label words: (B, C)."""
        logits = self.frozen.lm_logits(features.unsqueeze(1)).squeeze(1)  # (B, V)
        return logits[:, self.word_ids.to(logits.device)]


def make_template(frozen: FrozenLanguageModel, pattern: str | None, n_columns: int) -> Template:
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
    frozen: FrozenLanguageModel,
    classes: Sequence[Any],
    verbalizer: dict | None,
    *,
    answers: bool = False,
) -> tuple[int, ...]:
    """The token that stands for each class, within a sentence or as the answer in a chat.

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
    tokens = [_token_ids(frozen.tokenizer, word, answers) for word in words]
    for word, ids in zip(words, tokens, strict=True):
        if not ids or (frozen.family.kind == "encoder" and len(ids) > 1):
            pieces = frozen.tokenizer.convert_ids_to_tokens(ids)
            raise InvalidParameter(
                f"parameter verbalizer: {word!r} is not one token of {frozen.name!r} but {pieces}; "
                "choose a commoner word for this label"
            )
    firsts = [ids[0] for ids in tokens]
    seen: dict[int, int] = {}
    for i, first in enumerate(firsts):
        if seen.setdefault(first, i) != i:
            raise InvalidParameter(
                f"parameter verbalizer: {words[seen[first]]!r} and {words[i]!r} begin with the "
                f"same token of {frozen.name!r}; choose words that begin differently"
            )
    return tuple(firsts)


def _token_ids(tokenizer: Any, word: str, answers: bool) -> list[int]:
    # With the space, as the word stands inside a sentence; tokenizers that split on spaces
    # read both the same, and some keep the space as a token of its own.
    ids = tokenizer(" " + word, add_special_tokens=False, verbose=False)["input_ids"]
    alone = tokenizer(word, add_special_tokens=False, verbose=False)["input_ids"]
    return alone if answers or len(alone) < len(ids) else ids
