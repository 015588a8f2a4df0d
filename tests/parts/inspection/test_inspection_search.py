"""`SearchDisplay`: each kind of search is drawn as it ran, cell by cell."""

import matplotlib
import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from test_inspection import data, make

from sklopa.errors import InvalidParameter, InvalidType, NotFitted
from sklopa.inspection import SearchDisplay
from sklopa.inspection.drawing import VERMILION

matplotlib.use("Agg")
import matplotlib.pyplot as plt

X, Y = [[float(i)] for i in range(40)], [0, 1] * 20
GRID = {"rank": [0, 2, 4], "prompt_length": [5, 10]}


class Quick(ClassifierMixin, BaseEstimator):
    """Parameters of ours, and scores that follow from them at once."""

    def __init__(self, rank=1, prompt_length=7, gate="sigmoid", rate=1e-3):
        self.rank = rank
        self.prompt_length = prompt_length
        self.gate = gate
        self.rate = rate

    def fit(self, X, y):
        if self.rank > self.prompt_length:
            raise ValueError("rank")
        self.classes_ = np.unique(y)
        return self

    def score(self, X, y=None):
        worth = self.rank - self.prompt_length / 100 + 10 * (self.gate == "add") + self.rate
        return worth + len(X) / 1000  # more rows, better scores

    def predict(self, X):
        return np.zeros(len(X), dtype=int)


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def run(kind=GridSearchCV, grid=GRID, estimator=None, **options):
    return kind(estimator or Quick(), grid, cv=2, **options).fit(X, Y)


def drawn(display, panel=0):
    """The colours of a panel as numbers; NaN where there is no colour."""
    return np.ma.filled(display.images_[panel].get_array(), np.nan)


def ticks(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def frame(display):
    """Column, row of the framed cell."""
    return [int(v + 0.5) for v in display.frame_.get_xy()]


# ---------------------------------------------------------------------- scikit-learn's searches


def test_a_grid_is_drawn_cell_by_cell_and_the_chosen_one_is_framed():
    search = GridSearchCV(make("classifier", max_iter=1), {"rank": [2, 0], "prompt_length": [4, 2]})
    search = search.set_params(cv=2).fit(*data("classifier"))
    display = SearchDisplay.from_search(search)
    results = search.cv_results_
    expected = np.empty((2, 2))
    for params, score in zip(results["params"], results["mean_test_score"], strict=True):
        expected[[2, 4].index(params["prompt_length"]), [0, 2].index(params["rank"])] = score
    np.testing.assert_array_equal(drawn(display), expected)
    ax, best = display.ax_, search.best_params_
    assert (ticks(ax.xaxis), ticks(ax.yaxis)) == (["0", "2"], ["2", "4"])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("rank", "prompt_length")
    assert frame(display) == [[0, 2].index(best["rank"]), [2, 4].index(best["prompt_length"])]
    assert matplotlib.colors.to_hex(display.frame_.get_edgecolor()) == VERMILION.lower()
    written = {text.get_position(): text.get_text() for text in display.texts_}
    assert written == {(x, y): f"{expected[y, x]:.3f}" for y in (0, 1) for x in (0, 1)}
    assert display.colorbar_.ax.get_ylabel() == "mean test accuracy\nframed: chosen"
    assert display.images_[0].get_clim() == (expected.min(), expected.max())


def test_larger_values_are_further_up_and_right():
    display = SearchDisplay.from_search(run())
    assert drawn(display).shape == (2, 3)
    corner, opposite = display.ax_.transData.transform([(0, 0), (2, 1)])
    assert (opposite > corner).all()


def test_axes_can_be_swapped():
    display = SearchDisplay.from_search(run(), x="prompt_length", y="rank")
    np.testing.assert_array_equal(drawn(display), drawn(SearchDisplay.from_search(run())).T)


def test_one_parameter_is_one_row():
    display = SearchDisplay.from_search(run(grid={"rank": [0, 1, 2]}), y=None)
    assert drawn(display).shape == (1, 3)
    assert ticks(display.ax_.yaxis) == []


def test_a_third_parameter_has_a_panel_for_each_value():
    grid = GRID | {"gate": ["sigmoid", "add", "max"]}
    search = run(grid=grid)
    display = SearchDisplay.from_search(search)
    assert [ax.get_title() for ax in display.ax_] == ["gate = sigmoid", "gate = add", "gate = max"]
    assert len({image.get_clim() for image in display.images_}) == 1
    assert display.frame_.axes is display.ax_[1]
    np.testing.assert_allclose(drawn(display, 1) - drawn(display, 0), 10)
    flat = SearchDisplay.from_search(search, panel=None)
    np.testing.assert_array_equal(drawn(flat), drawn(display, 1))  # the best of each cell
    assert "best candidate of each" in flat.colorbar_.ax.get_ylabel().replace("\n", " ")


def test_panels_take_axes_that_are_given_and_ask_for_enough():
    search = run(grid=GRID | {"gate": ["sigmoid", "add"]})
    figure, axes = plt.subplots(1, 3)
    display = SearchDisplay.from_search(search, ax=axes[:2])
    assert list(display.ax_) == list(axes[:2])
    assert not axes[2].has_data()
    with pytest.raises(InvalidParameter, match=r"'gate' has 2 values.*ax holds 1 axes"):
        SearchDisplay.from_search(search, ax=axes[2])
    assert plt.get_fignums() == [figure.number]


def test_panels_can_be_asked_for_and_come_by_themselves_only_where_few():
    search = run(grid=GRID | {"gate": ["sigmoid", "add"], "rate": [0.1, 0.2]})
    assert SearchDisplay.from_search(search).panel is None  # two would be possible
    assert len(SearchDisplay.from_search(search, panel="rate").ax_) == 2
    many = run(grid=GRID | {"rate": [0.1, 0.2, 0.3, 0.4, 0.5]})
    assert SearchDisplay.from_search(many).panel is None
    assert len(SearchDisplay.from_search(many, panel="rate").ax_) == 5


def test_cells_that_were_not_tried_and_those_that_failed_are_told_apart():
    grid = {"rank": [0, 4], "prompt_length": [1, 5]}
    with pytest.warns(match="non-finite|fits failed"):
        search = run(RandomizedSearchCV, grid, n_iter=3, random_state=0)
    tried = [(p["rank"], p["prompt_length"]) for p in search.cv_results_["params"]]
    assert (4, 1) in tried
    assert len(tried) == 3
    display = SearchDisplay.from_search(search)
    written = {text.get_position(): text.get_text() for text in display.texts_}
    assert written[1, 0] == "failed"
    (left_out,) = {(0, 0), (0, 1), (1, 1)} - written.keys()
    assert np.isnan(drawn(display)).sum() == 2
    assert np.isnan(drawn(display)[left_out[::-1]])
    assert display.ax_.patch.get_hatch()
    assert "hatched: not tried or failed" in display.colorbar_.ax.get_ylabel().replace("\n", " ")


def test_a_halving_search_shows_each_candidate_as_it_last_ran():
    search = run(HalvingGridSearchCV, min_resources=8, factor=3, random_state=0)
    results, display = search.cv_results_, SearchDisplay.from_search(search)
    for i, params in enumerate(results["params"]):  # later rounds write over earlier ones
        at = (
            GRID["prompt_length"].index(params["prompt_length"]),
            GRID["rank"].index(params["rank"]),
        )
        last = [j for j, other in enumerate(results["params"]) if other == params][-1]
        assert drawn(display)[at] == results["mean_test_score"][last]
        (text,) = [t for t in display.texts_ if t.get_position() == at[::-1]]
        assert text.get_text().endswith(f"({results['n_resources'][last]})"), i
    assert frame(display) == [2, 0]
    assert "in brackets: n_samples" in display.colorbar_.ax.get_ylabel().replace("\n", " ")


def test_in_a_cell_of_a_halving_search_those_that_came_furthest_count():
    params = [{"rank": 1, "rate": 0.1}, {"rank": 1, "rate": 0.2}]
    display = SearchDisplay(
        params, [0.9, 0.8], x="rank", y=None, resources=[10, 20], resource="n_samples"
    ).plot()
    assert drawn(display).tolist() == [[0.8]]


def test_the_chosen_candidate_is_what_its_cell_shows():
    params = [{"rank": 1, "rate": 0.1}, {"rank": 1, "rate": 0.2}]
    display = SearchDisplay(params, [0.9, 0.8], x="rank", y=None, chosen=1).plot()
    assert drawn(display).tolist() == [[0.8]]


def test_a_parameter_that_a_grid_leaves_alone_is_as_the_estimator_has_it():
    search = run(grid=[{"rank": [0, 2]}, {"prompt_length": [5]}])
    display = SearchDisplay.from_search(search)
    assert display.cells_.values == ([None], [5, 7], [0, 1, 2])
    assert np.isfinite(drawn(display)).tolist() == [[False, True, False], [True, False, True]]


def test_parameters_of_a_pipeline_go_by_their_end():
    pipe = make_pipeline(FunctionTransformer(), Quick())
    search = run(estimator=pipe, grid={f"quick__{name}": values for name, values in GRID.items()})
    display = SearchDisplay.from_search(search)
    assert (display.x, display.ax_.get_xlabel()) == ("quick__rank", "rank")
    np.testing.assert_array_equal(drawn(display), drawn(SearchDisplay.from_search(run())))
    assert SearchDisplay.from_search(search, x="quick__rank").x == "quick__rank"


def test_an_end_that_several_parameters_have_needs_the_full_name():
    params = [{"a__rank": 0, "b__rank": i} for i in range(2)]
    search = run()
    search.cv_results_ = search.cv_results_ | {"params": params}
    with pytest.raises(InvalidParameter, match=r"'a__rank', 'b__rank'.*full name"):
        SearchDisplay.from_search(search, y=None)
    # A name counts as a whole before it counts as an end.
    search.cv_results_["params"] = [{"rank": i, "b__rank": 0} for i in range(2)]
    search.cv_results_["mean_test_score"] = [0.1, 0.2]
    assert SearchDisplay.from_search(search, y=None).x == "rank"


@pytest.mark.parametrize("name", ["gate", "ank", "quick"])
def test_what_is_no_parameter_of_the_search_is_refused(name):
    for names in ({"x": name}, {"y": name}, {"panel": name}):
        with pytest.raises(
            InvalidParameter, match=rf"'{name}' is no parameter.*'prompt_length', 'rank'"
        ):
            SearchDisplay.from_search(run(), **names)
    assert plt.get_fignums() == []


def test_axes_must_be_different_parameters():
    with pytest.raises(InvalidParameter, match=r"must be different.*'rank', 'rank'"):
        SearchDisplay.from_search(run(), x="rank", y="rank")


def test_of_several_scores_the_refitted_one_is_drawn_or_the_one_asked_for():
    scoring = {"plain": Quick.score, "twice": lambda clf, X, y: 2 * clf.score(X)}
    search = run(scoring=scoring, refit="twice")
    display = SearchDisplay.from_search(search)
    assert display.score_name == "mean test twice"
    np.testing.assert_allclose(
        drawn(display), 2 * drawn(SearchDisplay.from_search(search, metric="plain"))
    )
    search = run(scoring=scoring, refit=False)
    with pytest.raises(InvalidParameter, match="'plain', 'twice'"):
        SearchDisplay.from_search(search)
    with pytest.raises(InvalidParameter, match=r"metric='other'.*'plain', 'twice'"):
        SearchDisplay.from_search(search, metric="other")
    assert SearchDisplay.from_search(search, metric="plain").frame_ is None  # nothing was chosen


@pytest.mark.parametrize(
    ("scoring", "words"), [(None, "accuracy"), ("neg_log_loss", "neg log loss"), (max, "max")]
)
def test_the_score_has_the_name_of_what_was_measured(scoring, words):
    search = run()
    assert SearchDisplay.from_search(search.set_params(scoring=scoring)).score_name == (
        f"mean test {words}"
    )


def test_what_is_no_search_and_what_has_not_run_is_refused():
    with pytest.raises(NotFitted, match="GridSearchCV instance is not fitted"):
        SearchDisplay.from_search(GridSearchCV(Quick(), GRID))
    for other in (LogisticRegression(), GRID):
        with pytest.raises(InvalidType, match=f"got {type(other).__name__}"):
            SearchDisplay.from_search(other)
