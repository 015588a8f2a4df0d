"""`AblationDisplay`: the values of `ablate`, and a spread that is that of its rows."""

import matplotlib
import numpy as np
import pytest
from test_inspection import KINDS, TEXTS, data, fitted, make

from sklopa.errors import InvalidInput, InvalidType
from sklopa.inspection import AblationDisplay

matplotlib.use("Agg")
import matplotlib.pyplot as plt

CLASSIFIERS = [kind for kind in KINDS if kind not in ("regressor", "generator")]
DESIGNS = [
    {}, {"rank": 0}, {"depth": "deep"}, {"gate": "instance"}, {"gate": "concat"},
    {"prompt_length": 0}, {"train_encoder": True},
]  # fmt: skip
RIGHT = {"prompt": 0.75, "no prompt": 0.5, "linear probe": 1.0}


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def of_rows(n_rows=400, n_bootstraps=2000):
    """A display of rows that are right as often as `RIGHT` has it, drawn anew by numpy."""
    random = np.random.RandomState(1)
    drawn = [random.binomial(n_rows, share, n_bootstraps) / n_rows for share in RIGHT.values()]
    return AblationDisplay(RIGHT, np.array(drawn), n_rows=n_rows).plot()


def partly_wrong(times=1):
    """Rows, every other half of which has the wrong label."""
    X, y = data("classifier")
    return X * times, (y[:6] + y[5::-1]) * times


@pytest.mark.parametrize("options", DESIGNS)
def test_bars_are_what_ablate_finds(options):
    X, y = data("classifier")
    clf = make("classifier", **options).fit(X, y)
    X, y = [*X, "a bad film", "very good"], [*y, "pos", "pos"]
    scores = clf.ablate(X, y)
    display = AblationDisplay.from_estimator(clf, X, y)
    assert display.scores == scores
    assert [bar.get_width() for bar in display.bars_] == list(scores.values())
    assert [bar.get_x() for bar in display.bars_] == [0] * len(scores)
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == list(scores)
    assert [t.get_text() for t in display.texts_] == [f"{s:.3f}" for s in scores.values()]


def test_the_probe_of_the_training_rows_has_its_bar():
    X, y = data("classifier")
    clf = make("classifier").fit(X, y)
    display = AblationDisplay.from_estimator(clf, X, y, X_train=X, y_train=y)
    assert list(display.scores)[-1] == "linear probe"
    assert display.scores == clf.ablate(X, y, X, y)


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_bars_are_what_ablate_finds_for_every_kind_of_classifier(kind):
    X, y = data(kind)
    for labels in (y, y[::-1], y[1:] + y[:1]):
        display = AblationDisplay.from_estimator(fitted(kind), X, labels)
        assert display.scores == fitted(kind).ablate(X, labels)


@pytest.mark.parametrize("kind", ["regressor", "generator"])
def test_others_have_no_rows_that_are_right_or_wrong(kind):
    X, y = data(kind)
    with pytest.raises(InvalidType, match="needs a classifier"):
        AblationDisplay.from_estimator(fitted(kind), X, y)


def test_the_first_bar_is_on_top_and_the_axis_is_that_of_accuracy():
    display = of_rows()
    heights = display.ax_.transData.transform([(0, i) for i in range(len(RIGHT))])[:, 1]
    assert (np.diff(heights) < 0).all()
    assert display.ax_.get_xlim() == (0, 1)
    assert display.ax_.get_xlabel() == "accuracy on 400 rows (lines: 95% of 2000 bootstraps)"
    assert display.bars_[0].get_facecolor() != display.bars_[1].get_facecolor()


def test_lines_hold_95_percent_of_the_bootstrap():
    display = of_rows()
    (lines,) = display.bars_.errorbar.lines[2]
    for segment, row, (low, high) in zip(
        lines.get_segments(), display.bootstrap_scores, display.intervals_, strict=True
    ):
        np.testing.assert_allclose(segment[:, 0], [low, high])
        assert 0.93 <= ((row >= low) & (row <= high)).mean() <= 1
    assert display.intervals_[2].tolist() == [1, 1]


def test_the_spread_is_that_of_a_share_of_rows():
    X, y = partly_wrong(20)
    display = AblationDisplay.from_estimator(fitted(), X, y, n_bootstraps=3000)
    shares = np.array(list(display.scores.values()))
    assert ((shares > 0.2) & (shares < 0.9)).all()
    expected = np.sqrt(shares * (1 - shares) / len(X))
    np.testing.assert_allclose(display.bootstrap_scores.std(axis=1), expected, rtol=0.1)
    np.testing.assert_allclose(display.bootstrap_scores.mean(axis=1), shares, atol=0.005)


def test_all_ways_are_scored_on_the_same_drawn_rows():
    # With one prompt for all, that of another row is the same prompt.
    clf = make("classifier", rank=0).fit(*data("classifier"))
    display = AblationDisplay.from_estimator(clf, *partly_wrong(), n_bootstraps=50)
    ways = list(display.scores)
    same = [display.bootstrap_scores[ways.index(w)] for w in ("prompt", "another row's prompt")]
    np.testing.assert_array_equal(*same)
    assert same[0].std() > 0


def test_the_same_rows_are_drawn_for_the_same_seed():
    X, y = partly_wrong()
    one, same, other = (
        AblationDisplay.from_estimator(fitted(), X, y, n_bootstraps=30, random_state=seed)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one.bootstrap_scores, same.bootstrap_scores)
    assert (one.bootstrap_scores != other.bootstrap_scores).any()


def test_the_classifier_runs_once_however_many_rows_are_drawn(monkeypatch):
    import sklopa._batches.run as run

    X, y = data("classifier")
    calls, real = [], run.run_rows
    monkeypatch.setattr(run, "run_rows", lambda *a: calls.append(1) or real(*a))
    AblationDisplay.from_estimator(fitted(), X, y, n_bootstraps=3)
    few = len(calls)
    AblationDisplay.from_estimator(fitted(), X, y, n_bootstraps=300)
    assert len(calls) == 2 * few > 0


def test_words_are_inside_the_figure_and_do_not_touch():
    display = of_rows()
    display.figure_.canvas.draw()
    labels = [*display.ax_.get_yticklabels(), display.ax_.xaxis.label, *display.texts_]
    boxes = [label.get_window_extent() for label in labels]
    page = display.figure_.bbox
    assert all(page.x0 <= b.x0 and b.x1 <= page.x1 and page.y0 <= b.y0 for b in boxes)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_rows_that_do_not_fit_are_refused():
    with pytest.raises(InvalidInput, match="X has 6 rows and y has 1"):
        AblationDisplay.from_estimator(fitted(), TEXTS, ["pos"])
    with pytest.raises(InvalidInput, match="'other'"):
        AblationDisplay.from_estimator(fitted(), TEXTS[:1], ["other"])
    assert plt.get_fignums() == []
