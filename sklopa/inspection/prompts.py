"""`PromptDisplay`: the prompts of rows, seen from where they differ most."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import is_regressor

from sklopa._inputs.columns import check_lengths
from sklopa._inputs.labels import encode_labels
from sklopa._inputs.numeric import check_numbers
from sklopa.errors import InvalidInput
from sklopa.inspection.drawing import (
    BLUE,
    GREY,
    look_of,
    open_axes,
    pyplot,
    short,
    styled,
    told_apart,
)
from sklopa.inspection.fitted import design_of, unwrap

_LARGEST = 40  # size of a point, in square points
_HEIGHT = 4.2  # inches, of a figure whose legend fits into it


class PromptDisplay:
    """The prompts of rows in two dimensions, coloured by what the rows are.

    Each prompt is flattened to one vector, and the plane is the one in which they differ most
    (PCA). Rows whose prompts are alike stand together. With ``rank=0`` there is one prompt for all
    rows, and with ``prompt_length=0`` there is none; the picture then says so.

    Use :meth:`from_estimator` to make one. All parameters are stored as attributes.

    Parameters
    ----------
    coordinates : ndarray of shape (n, 2)
        Where each row stands.
    explained_variance_ratio : array-like of shape (2,)
        Share of the variance of the prompts on each axis, in [0, 1].
    labels : array-like of shape (n,), default=None
        What colours show. Floats are shown as a scale, other values as classes.
    label_name : str, default=None
        Title of the legend or scale.
    note : str, default=None
        What there is to say of prompts that do not differ; the picture is then that sentence.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    scatters_ : list of matplotlib PathCollection
        One for each class in the legend, in its order.
    legend_ : matplotlib Legend or None
        To the right of the axes.
    colorbar_ : matplotlib Colorbar or None
    text_ : matplotlib Text or None
        The note.

    See Also
    --------
    AblationDisplay : Whether the prompts help.
    nearest_tokens : Which words the rows of a prompt are close to.

    Examples
    --------
    >>> from sklopa import LoPAClassifier
    >>> from sklopa.datasets import load_intents
    >>> from sklopa.inspection import PromptDisplay
    >>> X, y = load_intents(return_X_y=True)
    >>> clf = LoPAClassifier(random_state=0).fit(X, y)  # doctest: +SKIP
    >>> PromptDisplay.from_estimator(clf, X, y)  # doctest: +SKIP
    <...>
    """

    scatters_: list[Any]
    colorbar_: Any

    def __init__(
        self,
        coordinates: np.ndarray,
        explained_variance_ratio: Any,
        *,
        labels: Any = None,
        label_name: str | None = None,
        note: str | None = None,
    ) -> None:
        self.coordinates = coordinates
        self.explained_variance_ratio = explained_variance_ratio
        self.labels = labels
        self.label_name = label_name
        self.note = note

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any = None, *, ax: Any = None, **style: Any
    ) -> PromptDisplay:
        """Make the prompts of rows, and draw them.

        Parameters
        ----------
        estimator : estimator of sklopa
            Fitted; or a pipeline or search that ends in one.
        X : array-like of n rows
            Of the kind that `fit` takes.
        y : array-like of n rows, default=None
            What to colour by: labels of any kind, known to the estimator or not; for a regressor
            numbers. Of rows with several labels each combination is a class.
        ax : matplotlib Axes, default=None
            Where to draw; None opens a figure.
        **style
            As in :meth:`plot`.

        Returns
        -------
        PromptDisplay

        Raises
        ------
        MissingDependency
            Without matplotlib.
        NotFitted, InvalidType
            If there is no fitted estimator of sklopa.
        InvalidInput
            If X or y cannot be used.
        """
        caller = f"{cls.__name__}.from_estimator"
        pyplot(caller)
        estimator, X = unwrap(caller, estimator, X)
        labels = None if y is None else _labels(estimator, y)
        prompts = estimator.generate_prompts(X)
        check_lengths(len(prompts), y=labels)
        coordinates, shares = principal_plane(prompts.reshape(len(prompts), -1))
        display = cls(
            coordinates,
            shares,
            labels=labels,
            label_name=getattr(y, "name", None),
            note=_note(design_of(estimator), prompts) if shares.sum() == 0 else None,
        )
        return display.plot(ax, **style)

    def plot(
        self,
        ax: Any = None,
        *,
        max_classes: int = 10,
        cmap: Any = "viridis",
        scatter_kw: dict | None = None,
    ) -> PromptDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None opens a figure.
        max_classes : int, default=10
            Most classes in colours of their own. Of more, the most frequent are, and the others
            are grey.
        cmap : str or matplotlib Colormap, default="viridis"
            Colours of numbers.
        scatter_kw : dict, default=None
            Keywords for matplotlib's ``Axes.scatter``.

        Returns
        -------
        PromptDisplay
            Itself.
        """
        with open_axes(f"{type(self).__name__}.plot", ax, (6.4, _HEIGHT)) as (figure, axes):
            self.figure_, self.ax_ = figure, axes.flat[0]
            self.scatters_, self.legend_, self.colorbar_, self.text_ = [], None, None, None
            for set_label, which, share in zip(
                (self.ax_.set_xlabel, self.ax_.set_ylabel),
                ("first", "second"),
                self.explained_variance_ratio,
                strict=True,
            ):
                set_label(f"{which} component ({share:.0%} of variance)")
            if self.note is not None:
                self._draw_note()
            elif self.labels is None:
                self._scatter(slice(None), scatter_kw, facecolor=BLUE)
            elif np.asarray(self.labels).dtype.kind == "f":
                self._draw_numbers(cmap, scatter_kw)
            else:
                n_lines = self._draw_classes(max_classes, scatter_kw)
                if ax is None:
                    figure.set_figheight(max(_HEIGHT, 0.5 + 0.165 * n_lines))
        return self

    def _scatter(self, rows: Any, style: dict | None, **look: Any) -> Any:
        from matplotlib.collections import PathCollection

        look = {"s": self._size(), "linewidth": 0.4, "edgecolor": "0.2", "alpha": 0.9} | look
        x, y = self.coordinates[rows].T
        scatter = self.ax_.scatter(x, y, **styled(look, style, PathCollection))
        self.scatters_.append(scatter)
        return scatter

    def _size(self) -> float:
        """Size of points, smaller the more there are."""
        return float(np.clip(9000 / max(1, len(self.coordinates)), 12, _LARGEST))

    def _draw_note(self) -> None:
        self.ax_.set(xticks=[], yticks=[], xlabel="", ylabel="")
        self.text_ = self.ax_.text(
            0.5, 0.5, self.note, transform=self.ax_.transAxes, ha="center", va="center"
        )

    def _draw_numbers(self, cmap: Any, style: dict | None) -> None:
        points = self._scatter(slice(None), style, c=np.asarray(self.labels), cmap=cmap)
        self.colorbar_ = self.figure_.colorbar(points, ax=self.ax_)
        self.colorbar_.set_label(short(self.label_name or "y"))

    def _draw_classes(self, max_classes: int, style: dict | None) -> int:
        """Draw points by class, and name the classes; how many lines the names take."""
        classes, codes, counts = np.unique(
            np.asarray(self.labels), return_inverse=True, return_counts=True
        )
        shown, title = np.arange(len(classes)), short(self.label_name or "")
        if len(classes) > max_classes:
            shown = np.sort(np.argsort(-counts, kind="stable")[:max_classes])
            title = f"{max_classes} most frequent\nof {len(classes)} classes"
            others = ~np.isin(codes, shown)
            grey = self._scatter(others, style, facecolor=GREY, s=8, linewidth=0, zorder=0.5)
        handles = [self._scatter(codes == c, style, **look_of(i)) for i, c in enumerate(shown)]
        names = told_apart(classes[shown].tolist())
        if len(classes) > max_classes:
            self.scatters_ = [*handles, grey]
            handles, names = self.scatters_, [*names, f"{len(classes) - max_classes} others"]
        self.legend_ = self.ax_.legend(
            handles,
            names,
            title=title,
            loc="upper left",
            bbox_to_anchor=(1.01, 1),
            frameon=False,
            alignment="left",
            markerscale=(_LARGEST / self._size()) ** 0.5,
            fontsize="small",
            labelspacing=0.3,
        )
        return "\n".join([title, *names]).count("\n") + 1


def principal_plane(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (n, 2) of vectors (n, D) in their principal plane, and shares of variance (2,).

    Zeros stand for what there is not: of equal vectors, the plane; of two, its second axis.
    """
    from sklearn.decomposition import PCA

    coordinates, shares = np.zeros((len(vectors), 2)), np.zeros(2)
    if vectors.size and (vectors != vectors[0]).any():
        n_axes = min(2, *vectors.shape)
        pca = PCA(n_axes, random_state=0)
        coordinates[:, :n_axes] = pca.fit_transform(vectors.astype(np.float64))
        shares[:n_axes] = pca.explained_variance_ratio_
    return coordinates, shares


def _note(design: Any, prompts: np.ndarray) -> str:
    """Why prompts do not differ."""
    n_rows = len(prompts)
    if prompts.size == 0:
        return "prompt_length=0: no prompt is made,\nso there is none to show."
    if design.rank == 0:
        return (
            f"rank=0: one prompt for all {n_rows} rows\n"
            "(prompt tuning), so they stand at one point.\nrank >= 1 makes a prompt for each row."
        )
    return (
        "one row has nothing to differ from" if n_rows == 1 else f"all {n_rows} prompts are equal"
    )


def _labels(estimator: Any, y: Any) -> np.ndarray:
    """What colours show (n,): floats for a regressor, else classes."""
    if is_regressor(estimator):
        numbers = check_numbers(y, np.ones(len(y))).values
        if numbers.shape[1] > 1:
            raise InvalidInput(
                f"y has {numbers.shape[1]} columns and rows are coloured by one; give that one."
            )
        return numbers[:, 0]
    labels = encode_labels(y)
    if not labels.is_multilabel:
        named = labels.classes[labels.codes]
        return named.astype(str) if named.dtype.kind == "f" else named
    names = labels.classes
    known: Any = getattr(estimator, "classes_", ())
    if len(known) == len(names):  # an indicator matrix has numbers for names
        names = known
    return np.array([" + ".join(map(str, names[row > 0])) or "none" for row in labels.codes])
