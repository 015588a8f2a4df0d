"""The heat map of `SearchDisplay` at all sizes, and the searches of Optuna."""

import matplotlib
import numpy as np
import pytest
from test_inspection import data, make

from sklopa import Backbone
from sklopa.errors import InvalidParameter, NotFitted
from sklopa.inspection import SearchDisplay
from sklopa.inspection.grid import distinct

matplotlib.use("Agg")
import matplotlib.pyplot as plt


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def of_size(n_x, n_y, **options):
    params = [{"rank": i, "prompt_length": j} for i in range(n_x) for j in range(n_y)]
    scores = np.random.RandomState(0).rand(len(params))
    options = {"x": "rank", "y": "prompt_length", "chosen": int(scores.argmax())} | options
    return SearchDisplay(params, scores, **options).plot()


def words_of(display):
    """All texts that are shown; the ticks of an axis may go on beyond its ends."""
    for ax in display.figure_.axes:
        for i, axis in enumerate((ax.xaxis, ax.yaxis)):
            low, high = sorted(axis.get_view_interval())
            yield axis.label
            yield from (t for t in axis.get_ticklabels() if low <= t.get_position()[i] <= high)
    yield from display.texts_


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (9, 4), (12, 10), (30, 40)])
def test_words_are_inside_the_figure_and_do_not_touch(size):
    display = of_size(*size)
    display.figure_.canvas.draw()
    page = display.figure_.bbox
    for box in (text.get_window_extent() for text in words_of(display) if text.get_text()):
        assert page.x0 <= box.x0 <= box.x1 <= page.x1
        assert page.y0 <= box.y0 <= box.y1 <= page.y1
    boxes = [text.get_window_extent() for text in display.texts_]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_scores_are_written_where_they_fit_and_left_out_where_not():
    assert len(of_size(4, 5).texts_) == 20
    crowded = of_size(30, 40)
    assert not crowded.texts_
    assert len(crowded.ax_.get_xticks()) <= 12
    assert crowded.frame_ is not None


def test_scores_are_readable_on_every_colour():
    display = of_size(5, 5)
    (image,) = display.images_
    for text in display.texts_:
        x, y = text.get_position()
        colour = np.array(image.cmap(image.norm(image.get_array()[y, x]))[:3])
        light = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
        ours = 0.0 if text.get_color() == "black" else 1.0
        dark, bright = sorted([light @ [0.2126, 0.7152, 0.0722], ours])
        assert (bright + 0.05) / (dark + 0.05) >= 4.5  # WCAG 2.1, level AA


def test_equal_scores_are_one_colour():
    params = [{"rank": i} for i in range(3)]
    display = SearchDisplay(params, [0.5] * 3, x="rank", y=None).plot()
    low, high = display.images_[0].get_clim()
    assert low < 0.5 < high


@pytest.mark.parametrize(("scores", "first"), [([0.5, 1], "0.500"), ([-250.4, -3], "-250")])
def test_scores_are_written_with_three_figures(scores, first):
    params = [{"rank": i} for i in range(2)]
    display = SearchDisplay(params, scores, x="rank", y=None).plot()
    assert display.texts_[0].get_text() == first
    assert display.plot(values_format=".1f").texts_[0].get_text() == f"{scores[0]:.1f}"


def test_values_of_every_kind_have_places_and_names():
    backbone = Backbone("some/model")
    values = [None, "add", True, 4, np.int64(2), 2.0, 1e-3, np.float32(0.5), backbone]
    params = [{"rank": value} for value in values]
    display = SearchDisplay(params, np.arange(9.0), x="rank", y=None).plot()
    assert display.cells_.values[2] == [None, "add", True, backbone, 1e-3, 0.5, 2.0, 4]
    assert display.cells_.counts.tolist() == [[[1, 1, 1, 1, 1, 1, 2, 1]]]
    names = [label.get_text() for label in display.ax_.get_xticklabels()]
    assert names[:3] == ["None", "add", "True"]
    assert names[4:] == ["0.001", "0.5", "2", "4"]


def test_distinct_values_keep_their_order_and_numbers_go_by_size():
    assert distinct([3, "b", 1, "a", 3.0, "b"]) == ["b", "a", 1, 3]


# ---------------------------------------------------------------------- Optuna


@pytest.fixture
def optuna():
    module = pytest.importorskip("optuna", reason="the extra optuna has it")
    module.logging.set_verbosity(module.logging.ERROR)
    return module


def study_of(optuna, direction):
    def objective(trial):
        rank, length = trial.suggest_int("rank", 0, 2), trial.suggest_int("prompt_length", 1, 2)
        if rank > length:
            raise optuna.TrialPruned
        return rank + length / 10

    study = optuna.create_study(direction=direction, sampler=optuna.samplers.BruteForceSampler())
    study.optimize(objective, n_trials=6)
    return study


@pytest.mark.parametrize(("direction", "best"), [("maximize", (2, 1)), ("minimize", (0, 0))])
def test_a_study_is_drawn_whichever_way_is_up(optuna, direction, best):
    display = SearchDisplay.from_search(study_of(optuna, direction))
    drawn = np.ma.filled(display.images_[0].get_array(), np.nan)
    np.testing.assert_allclose(drawn, [[0.1, 1.1, np.nan], [0.2, 1.2, 2.2]])
    assert tuple(int(v + 0.5) for v in display.frame_.get_xy()) == best
    (pruned,) = [t for t in display.texts_ if t.get_text() == "failed"]
    assert pruned.get_position() == (2, 0)
    assert display.colorbar_.ax.get_ylabel().startswith("objective value")
    bright = display.images_[0].cmap(display.images_[0].norm(drawn[best[::-1]]))
    np.testing.assert_allclose(bright, plt.get_cmap("viridis")(1.0))


@pytest.mark.parametrize(("direction", "wanted"), [("maximize", 3.0), ("minimize", 1.0)])
def test_of_trials_that_share_a_cell_the_best_is_shown(optuna, direction, wanted):
    study = optuna.create_study(direction=direction)
    for value in (2.0, 1.0, 3.0):
        study.add_trial(
            optuna.trial.create_trial(
                params={"rank": 1},
                distributions={"rank": optuna.distributions.IntDistribution(0, 4)},
                value=value,
            )
        )
    display = SearchDisplay.from_search(study, y=None)
    assert display.images_[0].get_array().tolist() == [[wanted]]


def test_a_search_of_optuna_is_drawn_as_one_of_scikit_learn(optuna):
    integration = pytest.importorskip("optuna_integration", reason="the extra optuna has it")
    space = {
        "rank": optuna.distributions.IntDistribution(0, 1),
        "prompt_length": optuna.distributions.IntDistribution(2, 3),
    }
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        search = integration.OptunaSearchCV(
            make("classifier", max_iter=1), space, cv=2, n_trials=3, random_state=0
        )
    search.fit(*data("classifier"))
    display = SearchDisplay.from_search(search)
    assert display.score_name == "mean test accuracy"
    _, lengths, ranks = display.cells_.values
    for trial in search.trials_:
        at = lengths.index(trial.params["prompt_length"]), ranks.index(trial.params["rank"])
        assert display.images_[0].get_array()[at] >= trial.value
    best = search.best_params_
    at = [ranks.index(best["rank"]), lengths.index(best["prompt_length"])]
    assert [int(v + 0.5) for v in display.frame_.get_xy()] == at


def test_a_study_without_results_or_with_several_objectives_is_refused(optuna):
    with pytest.raises(NotFitted, match="no complete trial"):
        SearchDisplay.from_search(optuna.create_study())
    with pytest.raises(InvalidParameter, match="2 objectives"):
        SearchDisplay.from_search(optuna.create_study(directions=["minimize", "maximize"]))
