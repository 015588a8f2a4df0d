"""Texts that lost their end, or their start."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from sklopa.errors import TruncationWarning


@dataclass(frozen=True)
class Truncation:
    """How many of the texts that were read are longer than the token limit.

    Attributes
    ----------
    n_cut : int, texts that lost a part
    n_rows : int, texts that were read
    limit : int or None, in tokens; None where it differs between rows
    side : {"right", "left"}, where they were cut
    """

    n_cut: int = 0
    n_rows: int = 0
    limit: int | None = None
    side: str = "right"

    def __add__(self, other: Truncation) -> Truncation:
        limit = self.limit if other.limit is None else other.limit
        side = self.side if other.limit is None else other.side
        return Truncation(self.n_cut + other.n_cut, self.n_rows + other.n_rows, limit, side)

    def warn(
        self, what: str = "texts", remedy: str = "Raise max_length if the backbone allows it"
    ) -> None:
        """One warning a call when texts lost their end."""
        if self.n_cut:
            limit = f"the limit of {self.limit} tokens" if self.limit else "the model has room for"
            lost = "end" if self.side == "right" else "start"
            warnings.warn(
                f"{self.n_cut} of {self.n_rows} {what} are longer than {limit} and lost their "
                f"{lost}. {remedy}, or shorten the texts.",
                TruncationWarning,
                stacklevel=3,
            )
