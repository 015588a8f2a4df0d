"""`AblationDisplay`: what the prompt is worth."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.utils import check_random_state

from sklopa.errors import InvalidType
from sklopa.inspection.drawing import BLUE, GREY, open_axes, pyplot, styled
from sklopa.inspection.fitted import unwrap


class AblationDisplay:
    """Accuracy with the prompt, and with something else in its place: `ablate` as bars.

    The lines across the ends of the bars hold 95 percent of the accuracies on rows drawn anew from
    those given (bootstrap). All bars are drawn from the same rows, so what differs by more than
    the lines differs by more than the choice of rows explains.

    Use :meth:`from_estimator` to make one. All parameters are stored as attributes.

    Parameters
    ----------
    scores : dict of str to float
        Accuracy of each way to run the classifier, as `ablate` gives it.
    bootstrap_scores : ndarray of shape (n_ways, n_bootstraps)
        The same of rows drawn anew.
    n_rows : int
        Rows that were scored.

    Attributes
    ----------
    intervals_ : ndarray of shape (n_ways, 2)
        Ends of the lines: the 2.5th and 97.5th percentile of `bootstrap_scores`.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    bars_ : matplotlib BarContainer
        From top to bottom in the order of `scores`.
    texts_ : list of matplotlib Text
        The scores in figures.

    See Also
    --------
    PromptDisplay : The prompts themselves.

    Examples
    --------
    >>> from sklearn.model_selection import train_test_split
    >>> from sklopa import LoPAClassifier
    >>> from sklopa.datasets import load_intents
    >>> from sklopa.inspection import AblationDisplay
    >>> X, X_test, y, y_test = train_test_split(*load_intents(return_X_y=True), random_state=0)
    >>> clf = LoPAClassifier(random_state=0).fit(X, y)  # doctest: +SKIP
    >>> AblationDisplay.from_estimator(clf, X_test, y_test)  # doctest: +SKIP
    <...>
    """

    def __init__(
        self, scores: dict[str, float], bootstrap_scores: np.ndarray, *, n_rows: int
    ) -> None:
        self.scores = scores
        self.bootstrap_scores = bootstrap_scores
        self.n_rows = n_rows

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        X_train: Any = None,
        y_train: Any = None,
        n_bootstraps: int = 1000,
        random_state: Any = 0,
        ax: Any = None,
        **style: Any,
    ) -> AblationDisplay:
        """Run a classifier in all ways, and draw how often each is right.

        Parameters
        ----------
        estimator : classifier of sklopa
            Fitted; or a pipeline or search that ends in one.
        X : array-like of n rows
            Of the kind that `fit` takes; rows that were not trained on tell the most.
        y : array-like of shape (n,), or indicator matrix (n, C)
        X_train, y_train : default=None
            The rows that the estimator was fitted on, for a linear probe that has learned from
            the same ones; else the probe is cross-validated on X, which is another thing.
        n_bootstraps : int, default=1000
            How often rows are drawn anew. The classifier runs once, however many there are.
        random_state : int, RandomState or None, default=0
            Draws them.
        ax : matplotlib Axes, default=None
            Where to draw; None opens a figure.
        **style
            As in :meth:`plot`.

        Returns
        -------
        AblationDisplay

        Raises
        ------
        MissingDependency
            Without matplotlib.
        NotFitted, InvalidType
            If there is no fitted classifier of sklopa.
        InvalidInput
            If X or y cannot be used.
        """
        caller = f"{cls.__name__}.from_estimator"
        pyplot(caller)
        _, X_train = unwrap(caller, estimator, X_train)
        estimator, X = unwrap(caller, estimator, X)
        if not is_classifier(estimator):
            raise InvalidType(
                f"{caller} needs a classifier, whose rows are right or wrong; got "
                f"{type(estimator).__name__}."
            )
        right = estimator._right_rows(X, y, X_train, y_train)
        table = np.array(list(right.values()), dtype=float)  # (n_ways, n)
        n_rows, random = table.shape[1], check_random_state(random_state)
        drawn = [table[:, random.randint(n_rows, size=n_rows)] for _ in range(n_bootstraps)]
        display = cls(
            {name: float(np.mean(rows)) for name, rows in right.items()},
            np.array([rows.mean(axis=1) for rows in drawn]).T,
            n_rows=n_rows,
        )
        return display.plot(ax, **style)

    @property
    def intervals_(self) -> np.ndarray:
        """Ends of the lines (n_ways, 2)."""
        return np.percentile(self.bootstrap_scores, [2.5, 97.5], axis=1).T

    def plot(self, ax: Any = None, *, bar_kw: dict | None = None) -> AblationDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None opens a figure.
        bar_kw : dict, default=None
            Keywords for matplotlib's ``Axes.barh``.

        Returns
        -------
        AblationDisplay
            Itself.
        """
        size = (6.0, 0.9 + 0.42 * len(self.scores))
        with open_axes(f"{type(self).__name__}.plot", ax, size) as (figure, axes):
            from matplotlib.patches import Rectangle

            self.figure_, self.ax_ = figure, axes.flat[0]
            n_drawn = self.bootstrap_scores.shape[1]
            names, scores = list(self.scores), np.array(list(self.scores.values()))
            look = {"color": [BLUE] + [GREY] * (len(names) - 1), "height": 0.66}
            self.bars_ = self.ax_.barh(
                names,
                scores,
                xerr=np.abs(self.intervals_ - scores[:, np.newaxis]).T,
                error_kw={"ecolor": "0.15", "elinewidth": 1.2, "capsize": 3},
                **styled(look, bar_kw, Rectangle),
            )
            self.texts_ = [
                self.ax_.annotate(
                    f"{score:.3f}", (1, name), (6, 0), ("axes fraction", "data"), "offset points",
                    va="center", annotation_clip=False,
                )
                for name, score in self.scores.items()
            ]  # fmt: skip
            self.ax_.set(xlim=(0, 1), ylim=(len(names) - 0.5, -0.5))
            self.ax_.set_xlabel(
                f"accuracy on {self.n_rows} rows (lines: 95% of {n_drawn} bootstraps)"
            )
            self.ax_.tick_params(axis="y", length=0)
            self.ax_.spines[["top", "right"]].set_visible(False)
        return self
