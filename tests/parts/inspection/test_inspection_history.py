"""`HistoryDisplay`: loss and score of each epoch, of estimators of every kind."""

import matplotlib
import numpy as np
import pytest
import tiny
from test_inspection import KINDS, data, fitted, make

from sklopa import LoPAClassifier
from sklopa.inspection import HistoryDisplay

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SCORES = {"regressor": "R²", "generator": "log-likelihood"}


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


@pytest.mark.parametrize("kind", KINDS)
def test_history_shows_loss_and_score_of_each_epoch(kind):
    clf = fitted(kind)
    display = HistoryDisplay.from_estimator(clf)
    for line, values in (
        (display.loss_line_, clf.loss_curve_),
        (display.score_line_, clf.validation_scores_),
    ):
        assert line.get_xdata().tolist() == [1, 2, 3]
        assert line.get_ydata().tolist() == values
        low, high = line.axes.get_ylim()
        assert low < min(values) <= max(values) < high
    assert display.ax_.get_xlabel() == "epoch"
    assert display.ax_.get_ylabel() == "training loss"
    assert display.score_ax_.get_ylabel() == f"validation {SCORES.get(kind, 'accuracy')}"
    best = int(np.argmax(clf.validation_scores_)) + 1  # the first of equal ones
    assert display.best_epoch_ == best
    assert list(display.best_line_.get_xdata()) == [best, best]
    words = f"{clf.best_validation_score_:.3f} in epoch {best}"
    assert words in display.ax_.get_title()


@pytest.mark.parametrize("kind", KINDS)
def test_history_without_validation_marks_the_lowest_loss(kind):
    clf = fitted(kind, watched=False)
    display = HistoryDisplay.from_estimator(clf)
    assert display.score_ax_ is display.score_line_ is None
    assert len(display.figure_.axes) == 1
    best = int(np.argmin(clf.loss_curve_)) + 1
    assert list(display.best_line_.get_xdata()) == [best, best]
    assert display.ax_.get_title() == f"lowest loss {min(clf.loss_curve_):.3f} in epoch {best}"


@pytest.mark.parametrize("kind", KINDS)
def test_one_epoch_is_one_point_of_each_line_and_they_do_not_hide_each_other(kind):
    X, y = data(kind)
    clf = make(kind, max_iter=1).fit(X, y, X_val=X, y_val=y)
    display = HistoryDisplay.from_estimator(clf)
    assert display.ax_.get_xlim() == (0.5, 1.5)
    ticks = [t for t in display.ax_.get_xticks() if 0.5 <= t <= 1.5]
    assert ticks == [1]
    lines = display.loss_line_, display.score_line_
    at = [line.axes.transData.transform(line.get_xydata())[0] for line in lines]
    assert abs(at[0][1] - at[1][1]) > 2 * lines[0].get_markersize()
    assert at[0][0] == at[1][0]


def test_epochs_are_marked_by_whole_numbers():
    ticks = HistoryDisplay([3.0, 2.0, 1.0]).plot().ax_.get_xticks()
    assert all(tick == int(tick) for tick in ticks)


def test_many_epochs_are_lines_without_markers():
    assert HistoryDisplay(np.arange(90.0)).plot().loss_line_.get_markersize() == 0


def test_nothing_that_was_trained_is_said_in_words():
    clf = LoPAClassifier(
        tiny.backbone(), prompt_length=0, head="verbalizer",
        verbalizer={"pos": "good", "neg": "bad"}, random_state=0,
    ).fit(*data("classifier"))  # fmt: skip
    display = HistoryDisplay.from_estimator(clf)
    assert display.best_epoch_ is None
    assert display.ax_.get_title() == "no epochs: nothing was trained"
    assert not display.ax_.lines


def test_epochs_without_a_score_leave_a_gap():
    X, y = data("classifier")
    clf = make("classifier", warm_start=True, max_iter=2).fit(X, y)
    clf.fit(X, y, X_val=X, y_val=y)
    display = HistoryDisplay.from_estimator(clf.partial_fit(X, y))
    drawn = display.score_line_.get_ydata()
    assert np.isnan(drawn).tolist() == [True, True, False, False, True]
    assert drawn[2:4].tolist() == clf.validation_scores_
    assert display.best_epoch_ == 3 + int(np.argmax(clf.validation_scores_))


def test_the_two_lines_have_the_colours_of_their_axes():
    display = HistoryDisplay.from_estimator(fitted())
    for line in (display.loss_line_, display.score_line_):
        assert line.axes.yaxis.label.get_color() == line.get_color()
    assert display.loss_line_.get_color() != display.score_line_.get_color()
    assert display.loss_line_.get_marker() != display.score_line_.get_marker()
