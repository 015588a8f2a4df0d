"""Texts that are far longer than what is read of them: the start that decides what is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_SPARE = 16  # tokens beyond those that are read, for seams that words of a template may move
_CHARACTERS = 16  # a token, at first
_MORE = 4999  # characters; a prime, so that no period of a text makes two of its starts alike


def deciding_part(
    text: str, n_tokens: int, ids_of: Callable[[Sequence[str]], list[list[int]]]
) -> str:
    """The start of a text that has the same first tokens as the whole.

    The last tokens of a start are often others than those that the whole text has there: words are
    cut, and some tokenizers look ahead, or at all of a text at once. So a longer start is read
    beside it. What the two have in common does not depend on what stands behind them, and when
    that is enough, the longer one is taken. Otherwise both grow, up to the whole text.

    There is no such thing for the last tokens of a text: tokenizers read from its start, and where
    a run of equal letters began, however far away, decides how its end is cut into tokens.

    Parameters
    ----------
    n_tokens : int
        How many are read at most.
    ids_of : callable
        Tokens of texts by themselves.
    """
    needed = n_tokens + _SPARE
    n = _CHARACTERS * needed
    while n + _MORE < len(text) // 2:  # otherwise little is saved
        start = text[: n + _MORE]
        shorter, longer = (ids[:needed] for ids in ids_of([text[:n], start]))
        if len(shorter) == needed and shorter == longer:
            return start
        n *= 4
    return text


def is_far_longer(text: str, n_tokens: int) -> bool:
    """Whether a start of a text may be enough to know so many of its tokens."""
    return _CHARACTERS * (n_tokens + _SPARE) + _MORE < len(text) // 2
