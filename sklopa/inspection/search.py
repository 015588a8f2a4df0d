"""`SearchDisplay`: what a search found, over two of its parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

from sklopa.errors import InvalidParameter
from sklopa.inspection.candidates import Candidates, read_search
from sklopa.inspection.drawing import open_axes, pyplot
from sklopa.inspection.grid import Cells, distinct, place_candidates, values_of
from sklopa.inspection.heat_map import draw_colorbar, draw_panel, figure_size, write_scores

_MOST_PANELS = 4  # for a parameter that nobody asked panels for
_PANELS_A_ROW = 3


class SearchDisplay:
    """Mean test scores of a search over two parameters, with the chosen cell marked.

    Of candidates that share a cell the best is shown; of a halving search the best among those
    that came furthest. Hatched cells have no score: they were not tried, or they failed.

    Use :meth:`from_search` to make one. All parameters are stored as attributes.

    Parameters
    ----------
    params : list of dict
        Parameters of each candidate.
    scores : array-like of shape (n_candidates,)
        Their mean test scores; NaN for one that failed.
    x, y : str
        Parameters on the axes. ``y=None`` draws one row.
    panel : str, default=None
        Parameter that has a panel for each value.
    chosen : int, default=None
        Which candidate to mark.
    score_name : str, default="mean test score"
    larger_is_better : bool, default=True
        Whether the best score is the largest.
    resources : array-like of shape (n_candidates,), default=None
        Of a halving search: the most of `resource` that each candidate was given.
    resource : str, default=None

    Attributes
    ----------
    cells_ : Cells
        Which values stand where (``values``, of panels, rows and columns), which candidate each
        cell shows (``candidate``, -1 for none) and how many share it (``counts``).
    ax_ : matplotlib Axes, or ndarray of Axes of shape (n_panels,) where there are several
    figure_ : matplotlib Figure
    images_ : list of matplotlib AxesImage
        One a panel.
    texts_ : list of matplotlib Text
        The scores in figures, where they fit into the cells.
    frame_ : matplotlib Rectangle or None
        Around the chosen cell.
    colorbar_ : matplotlib Colorbar

    See Also
    --------
    HistoryDisplay : The course of one fit.

    Examples
    --------
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklopa import LoPAClassifier
    >>> from sklopa.datasets import load_intents
    >>> from sklopa.inspection import SearchDisplay
    >>> X, y = load_intents(return_X_y=True)
    >>> grid = {"rank": [0, 2, 4], "prompt_length": [5, 10], "gate": ["sigmoid", "add"]}
    >>> search = GridSearchCV(LoPAClassifier(random_state=0), grid, cv=3)
    >>> search.fit(X, y)  # doctest: +SKIP
    >>> SearchDisplay.from_search(search)  # doctest: +SKIP
    <...>
    """

    images_: list[Any]
    texts_: list[Any]

    def __init__(
        self,
        params: list[dict[str, Any]],
        scores: Any,
        *,
        x: str,
        y: str | None,
        panel: str | None = None,
        chosen: int | None = None,
        score_name: str = "mean test score",
        larger_is_better: bool = True,
        resources: Any = None,
        resource: str | None = None,
    ) -> None:
        self.params = params
        self.scores = scores
        self.x = x
        self.y = y
        self.panel = panel
        self.chosen = chosen
        self.score_name = score_name
        self.larger_is_better = larger_is_better
        self.resources = resources
        self.resource = resource

    @classmethod
    def from_search(
        cls,
        search: Any,
        x: str = "rank",
        y: str | None = "prompt_length",
        *,
        panel: str | None = "auto",
        metric: str | None = None,
        ax: Any = None,
        **style: Any,
    ) -> SearchDisplay:
        """Draw a search that has run.

        Parameters
        ----------
        search : GridSearchCV, RandomizedSearchCV, halving search, OptunaSearchCV or optuna Study
        x, y : str
            Parameters on the axes. Of a pipeline the end of the name is enough: "rank" for
            "lopaclassifier__rank". ``y=None`` draws one row.
        panel : str or None, default="auto"
            Parameter that has a panel for each value. "auto" takes the only other one that varied,
            if it has at most four values.
        metric : str, default=None
            Which score, where a search has several; None takes the one that it refits for.
        ax : matplotlib Axes, or array with one for each panel, default=None
            Where to draw; None opens a figure.
        **style
            As in :meth:`plot`.

        Returns
        -------
        SearchDisplay

        Raises
        ------
        MissingDependency
            Without matplotlib.
        InvalidParameter
            If x, y or panel is no parameter of the search, or metric none of its scores.
        NotFitted, InvalidType
            If the search has not run, or is none.
        """
        pyplot(f"{cls.__name__}.from_search")
        found = read_search(search, metric)
        x = found.find(x)
        y = y if y is None else found.find(y)
        if panel == "auto":
            panel = _panel_by_itself(found, x, y)
        elif panel is not None:
            panel = found.find(panel)
        named = [name for name in (x, y, panel) if name is not None]
        if len(set(named)) < len(named):
            raise InvalidParameter(
                f"x, y and panel must be different parameters; got {', '.join(map(repr, named))}."
            )
        return cls(**vars(found), x=x, y=y, panel=panel).plot(ax, **style)

    @property
    def cells_(self) -> Cells:
        """Where the candidates stand."""
        scores = np.asarray(self.scores, dtype=float)
        worth = np.nan_to_num(scores if self.larger_is_better else -scores, nan=-np.inf)
        reached = np.zeros(len(worth)) if self.resources is None else np.asarray(self.resources)
        is_chosen = np.arange(len(worth)) == self.chosen
        order = np.empty(len(worth))
        order[np.lexsort((worth, reached, is_chosen))] = np.arange(len(worth))
        return place_candidates(self.params, (self.panel, self.y, self.x), order)

    def plot(
        self,
        ax: Any = None,
        *,
        cmap: Any = "viridis",
        values_format: str | None = None,
        im_kw: dict | None = None,
    ) -> SearchDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, or array with one for each panel, default=None
            Where to draw; None opens a figure.
        cmap : str or matplotlib Colormap, default="viridis"
            The best score has its last colour.
        values_format : str, default=None
            How scores are written; None is ".3f", and ".3g" for scores of 100 and more.
        im_kw : dict, default=None
            Keywords for matplotlib's ``Axes.imshow``.

        Returns
        -------
        SearchDisplay
            Itself.

        Raises
        ------
        InvalidParameter
            If there are more panels than axes.
        """
        cells = self.cells_
        n_panels = len(cells.values[0])
        n_rows = -(-n_panels // _PANELS_A_ROW)
        n_columns = -(-n_panels // n_rows)
        size = figure_size(cells, n_rows, n_columns)
        caller = f"{type(self).__name__}.plot"
        with open_axes(caller, ax, size, n_rows, n_columns) as (self.figure_, axes):
            if axes.size < n_panels:
                raise InvalidParameter(
                    f"{self.panel!r} has {n_panels} values with a panel each, and ax holds "
                    f"{axes.size} axes. Give {n_panels}, or ax=None, or panel=None."
                )
            used, self.images_, self.texts_, self.frame_ = axes.flat[:n_panels], [], [], None
            for spare in axes.flat[n_panels:]:
                spare.set_axis_off()
            for i, panel_ax in enumerate(used):
                draw_panel(self, cells, i, panel_ax, {"cmap": cmap} | (im_kw or {}))
                write_scores(self, cells, i, panel_ax, values_format)
                if ax is None and i % n_columns:
                    panel_ax.set_ylabel("")
            draw_colorbar(self, cells, used, n_rows)
            self.ax_ = used[0] if n_panels == 1 else used
        return self


def _panel_by_itself(found: Candidates, *named: str | None) -> str | None:
    """The only parameter that varies beside those named, if it has few values that come again."""
    known = dict.fromkeys(name for params in found.params for name in params)
    values = {name: values_of(found.params, name) for name in known if name not in named}
    varied = [name for name, column in values.items() if len(distinct(column)) > 1]
    if len(varied) != 1:
        return None
    n_values = len(distinct(values[varied[0]]))
    return varied[0] if n_values <= _MOST_PANELS and n_values < len(found.params) else None
