"""`HistoryDisplay`: how training went, epoch by epoch."""

from __future__ import annotations

from typing import Any

import numpy as np

from sklopa.inspection.drawing import BLUE, VERMILION, open_axes, pyplot, styled
from sklopa.inspection.fitted import score_name, unwrap

_MOST_MARKERS = 40  # epochs up to which each has a marker


class HistoryDisplay:
    """Training loss and validation score by epoch, with the best epoch marked.

    Use :meth:`from_estimator` to make one. All parameters are stored as attributes.

    Parameters
    ----------
    losses : array-like of shape (n_epochs,)
        Mean training loss of each epoch.
    validation_scores : array-like of shape (n_epochs,), default=None
        Validation score of each epoch, larger is better; NaN where an epoch has none.
    score_name : str, default="score"
        What the validation score is, for its axis.

    Attributes
    ----------
    best_epoch_ : int or None
        The first epoch, counted from 1, with the best validation score; without validation the
        one with the lowest training loss. None where there was no epoch. After one fit with
        ``early_stopping=True`` it is the epoch whose state the estimator holds.
    ax_ : matplotlib Axes
        Has the loss.
    score_ax_ : matplotlib Axes or None
        Shares its epochs with `ax_` and has the validation score.
    figure_ : matplotlib Figure
    loss_line_, score_line_ : matplotlib Line2D or None
    best_line_ : matplotlib Line2D or None
        Dotted, at the best epoch, which the title names.

    See Also
    --------
    SearchDisplay : Scores of a search over two parameters.

    Examples
    --------
    >>> from sklopa import LoPAClassifier
    >>> from sklopa.datasets import load_intents
    >>> from sklopa.inspection import HistoryDisplay
    >>> X, y = load_intents(return_X_y=True)
    >>> clf = LoPAClassifier(early_stopping=True, random_state=0).fit(X, y)  # doctest: +SKIP
    >>> HistoryDisplay.from_estimator(clf)  # doctest: +SKIP
    <...>

    From numbers that were kept:

    >>> display = HistoryDisplay([1.2, 0.6, 0.4], validation_scores=[0.7, 0.9, 0.8])
    >>> display.best_epoch_
    2
    """

    def __init__(
        self, losses: Any, *, validation_scores: Any = None, score_name: str = "score"
    ) -> None:
        self.losses = losses
        self.validation_scores = validation_scores
        self.score_name = score_name

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None, **style: Any) -> HistoryDisplay:
        """Draw the history of a fitted estimator.

        Parameters
        ----------
        estimator : estimator of sklopa
            Fitted; or a pipeline or search that ends in one.
        ax : matplotlib Axes, default=None
            Where to draw; None opens a figure.
        **style
            As in :meth:`plot`.

        Returns
        -------
        HistoryDisplay

        Raises
        ------
        MissingDependency
            Without matplotlib.
        NotFitted, InvalidType
            If there is no fitted estimator of sklopa.
        """
        caller = f"{cls.__name__}.from_estimator"
        pyplot(caller)
        estimator, _ = unwrap(caller, estimator)
        records = estimator.history_
        losses = np.array([record["loss"] for record in records], dtype=float)
        scores = np.array([record.get("validation_score", np.nan) for record in records])
        display = cls(
            losses,
            validation_scores=None if np.isnan(scores).all() else scores,
            score_name=score_name(estimator),
        )
        return display.plot(ax, **style)

    @property
    def best_epoch_(self) -> int | None:
        """The best epoch, counted from 1."""
        if len(self.losses) == 0:
            return None
        if self.validation_scores is None:
            return int(np.argmin(self.losses)) + 1
        return int(np.nanargmax(self.validation_scores)) + 1

    def plot(
        self, ax: Any = None, *, loss_kw: dict | None = None, score_kw: dict | None = None
    ) -> HistoryDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None opens a figure.
        loss_kw, score_kw : dict, default=None
            Keywords for matplotlib's ``Axes.plot`` of the two lines.

        Returns
        -------
        HistoryDisplay
            Itself.
        """
        with open_axes(f"{type(self).__name__}.plot", ax, (5.6, 3.6)) as (figure, axes):
            self.figure_, self.ax_ = figure, axes.flat[0]
            self.loss_line_ = self.score_ax_ = self.score_line_ = self.best_line_ = None
            self._draw_epochs()
            if len(self.losses):
                self._draw_loss(loss_kw)
                if self.validation_scores is not None:
                    self._draw_scores(score_kw)
                self._mark_best()
        return self

    def _draw_epochs(self) -> None:
        from matplotlib.ticker import MaxNLocator

        n_epochs = len(self.losses)
        self.ax_.set(xlabel="epoch", xlim=(0.5, max(1, n_epochs) + 0.5))
        self.ax_.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if n_epochs == 0:
            self.ax_.set(xticks=[], yticks=[], title="no epochs: nothing was trained")

    def _draw_loss(self, style: dict | None) -> None:
        look = {"color": BLUE, "marker": "o"}
        self.loss_line_ = self._line(self.ax_, self.losses, look, style, flat_at=0.4)
        self._name(self.ax_, "training loss", self.loss_line_)

    def _draw_scores(self, style: dict | None) -> None:
        look = {"color": VERMILION, "marker": "s"}
        self.score_ax_ = self.ax_.twinx()
        scores = self.validation_scores
        self.score_line_ = self._line(self.score_ax_, scores, look, style, flat_at=0.6)
        self._name(self.score_ax_, f"validation {self.score_name}", self.score_line_)

    def _line(self, ax: Any, values: Any, look: dict, style: dict | None, *, flat_at: float) -> Any:
        """A line that fills its axes; one without a slope lies at `flat_at` of their height."""
        from matplotlib.lines import Line2D

        values = np.asarray(values, dtype=float)
        look = look | {"markersize": 5 if len(values) <= _MOST_MARKERS else 0}
        (line,) = ax.plot(np.arange(1, len(values) + 1), values, **styled(look, style, Line2D))
        low, high = np.nanmin(values), np.nanmax(values)
        if low == high:
            size = 0.1 * abs(low) or 1.0
            ax.set_ylim(low - flat_at * size, low + (1 - flat_at) * size)
        else:
            ax.set_ylim(low - 0.08 * (high - low), high + 0.08 * (high - low))
        return line

    def _name(self, ax: Any, name: str, line: Any) -> None:
        ax.set_ylabel(name, color=line.get_color())
        ax.tick_params(axis="y", colors=line.get_color())

    def _mark_best(self) -> None:
        best = self.best_epoch_
        assert best is not None  # there are losses
        self.best_line_ = self.ax_.axvline(best, color="0.35", linestyle=":", zorder=0)
        words = f"lowest loss {self.losses[best - 1]:.3f} in epoch {best}"
        if self.validation_scores is not None:
            score = self.validation_scores[best - 1]
            words = f"best {self.score_name} {score:.3f} in epoch {best}"
        self.ax_.set_title(words, fontsize="medium")
