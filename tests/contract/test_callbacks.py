"""scikit-learn's callbacks see a fit as one task with a task for each epoch."""

import numpy as np
import pytest
import sklearn
from helpers import weights_of
from sklearn.model_selection import GridSearchCV
from sklearn.utils.fixes import parse_version

from sklopa._tasks.classification import SingleLabel
from sklopa._training.loop import Trainer
from sklopa.errors import FitFailed

if parse_version(sklearn.__version__) < parse_version("1.9"):
    pytest.skip("callbacks came with scikit-learn 1.9", allow_module_level=True)

from sklearn.callback import ProgressBar, ScoringMonitor


class Recorder:
    """Notes every hook, and may ask to stop after some epochs."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after
        self.calls, self.scores, self.data = [], [], []

    def setup(self, estimator, context):
        self.calls.append(("setup", context.task_name, context.task_id))

    def teardown(self, estimator, context):
        self.calls.append(("teardown", context.task_name, context.task_id))

    def on_fit_task_begin(self, estimator, context, *, X, y):
        self.calls.append(("begin", context.task_name, context.task_id))
        self.data.append((X, y))

    def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator):
        self.calls.append(("end", context.task_name, context.task_id))
        self.data.append((X, y))
        if fitted_estimator is not None:
            self.scores.append(fitted_estimator.score(X, y))
        return context.task_name == "epoch" and context.task_id + 1 == self.stop_after

    def of(self, what):
        return [call[1:] for call in self.calls if call[0] == what]


def diverge(monkeypatch, in_epoch):
    """Let the loss be NaN in some epoch."""
    epoch, n = Trainer.epoch, iter(range(1, 100))

    def run(self, *args, **kwargs):
        loss = epoch(self, *args, **kwargs)
        return float("nan") if next(n) == in_epoch else loss

    monkeypatch.setattr(Trainer, "epoch", run)


def test_a_fit_is_one_task_with_a_task_for_each_epoch(make_classifier, reviews):
    recorder = Recorder()
    make_classifier(max_iter=3).set_callbacks(recorder).fit(*reviews)
    assert recorder.calls == [
        ("setup", "fit", 0),
        ("begin", "fit", 0),
        ("begin", "epoch", 0), ("end", "epoch", 0),
        ("begin", "epoch", 1), ("end", "epoch", 1),
        ("begin", "epoch", 2), ("end", "epoch", 2),
        ("end", "fit", 0),
        ("teardown", "fit", 0),
    ]  # fmt: skip
    assert all(X is reviews[0] and y is reviews[1] for X, y in recorder.data)


def test_every_epoch_that_begins_ends_where_training_stops_by_itself(make_classifier, reviews):
    recorder = Recorder()
    clf = make_classifier(max_iter=20, tol=1e9, n_iter_no_change=2).set_callbacks(recorder)
    clf.fit(*reviews)
    assert clf.n_iter_ < 20
    epochs = [("epoch", i) for i in range(clf.n_iter_)]
    assert recorder.of("begin") == [("fit", 0), *epochs]
    assert recorder.of("end") == [*epochs, ("fit", 0)]


def test_a_callback_can_stop_the_fit(make_classifier, reviews):
    recorder = Recorder(stop_after=2)
    clf = make_classifier(max_iter=10).set_callbacks(recorder).fit(*reviews)
    assert clf.n_iter_ == 2
    assert recorder.of("begin") == [("fit", 0), ("epoch", 0), ("epoch", 1)]
    assert recorder.of("end") == [("epoch", 0), ("epoch", 1), ("fit", 0)]
    assert np.isfinite(clf.decision_function(reviews[0])).all()


def test_callbacks_change_nothing_of_the_result(make_classifier, reviews):
    plain = make_classifier(dropout=0.3).fit(*reviews)
    watched = make_classifier(dropout=0.3).set_callbacks(
        Recorder(), ScoringMonitor(scoring="accuracy")
    )
    watched.fit(*reviews)
    for name, value in weights_of(plain).items():
        np.testing.assert_array_equal(weights_of(watched)[name], value)
    assert watched.loss_curve_ == plain.loss_curve_
    assert vars(watched).keys() == vars(plain).keys() | {"_skl_callbacks"}


def test_scoring_monitor_scores_every_epoch_and_the_fit(make_classifier, reviews):
    monitor = ScoringMonitor(scoring=("accuracy", "neg_log_loss"))
    clf = make_classifier(max_iter=4, learning_rate=1e-2).set_callbacks(monitor).fit(*reviews)
    rows = monitor.get_logs().data
    epochs = [row for row in rows if row["task_name"] == "epoch"]
    (whole,) = [row for row in rows if row["task_name"] == "fit"]
    assert [row["task_id"] for row in epochs] == [0, 1, 2, 3]
    assert {row["estimator_name"] for row in rows} == {"LoPAClassifier"}
    assert whole["accuracy"] == epochs[-1]["accuracy"] == clf.score(*reviews)
    losses = [row["neg_log_loss"] for row in epochs]
    assert len(set(losses)) == 4
    assert losses[-1] > losses[0]
    assert whole["neg_log_loss"] == losses[-1]


def test_scoring_monitor_sees_the_restored_state_at_the_end(monkeypatch, make_classifier, reviews):
    script = iter([0.9, 0.1, 0.1, 0.1])
    monkeypatch.setattr(SingleLabel, "score", lambda *_: next(script))
    monitor = ScoringMonitor(scoring="neg_log_loss")
    clf = make_classifier(max_iter=4, learning_rate=1e-2, early_stopping=True)
    clf.set_callbacks(monitor).fit(*reviews)
    rows = monitor.get_logs().data
    scores = {(row["task_name"], row["task_id"]): row["neg_log_loss"] for row in rows}
    assert scores["fit", 0] == scores["epoch", 0] != scores["epoch", 3]


def test_scoring_monitor_in_a_grid_search_logs_every_epoch_of_every_fit(make_classifier, reviews):
    monitor = ScoringMonitor(scoring="accuracy")
    clf = make_classifier(max_iter=2).set_callbacks(monitor)
    GridSearchCV(clf, {"rank": [0, 1]}, cv=2, error_score="raise").fit(*reviews)
    rows = [row for row in monitor.get_logs().data if row["estimator_name"] == "LoPAClassifier"]
    n_fits = 2 * 2 + 1
    epochs = [row for row in rows if row["task_name"] == "epoch"]
    assert len(epochs) == n_fits * 2
    assert len({row["parent_task_id_path"] for row in epochs}) == n_fits
    assert all(0 <= row["accuracy"] <= 1 for row in epochs)


def test_progress_bar_shows_the_fit(make_classifier, reviews, capsys):
    pytest.importorskip("rich", reason="scikit-learn's ProgressBar draws with rich")
    make_classifier(max_iter=2).set_callbacks(ProgressBar()).fit(*reviews)
    shown = capsys.readouterr().out
    assert "LoPAClassifier - fit" in shown
    assert "100%" in shown


def test_progress_bar_shows_the_fits_of_a_grid_search(make_classifier, reviews, capsys):
    pytest.importorskip("rich", reason="scikit-learn's ProgressBar draws with rich")
    search = GridSearchCV(make_classifier(max_iter=2), {"rank": [0, 1]}, cv=2, error_score="raise")
    search.set_callbacks(ProgressBar()).fit(*reviews)
    shown = capsys.readouterr().out
    assert "GridSearchCV - fit" in shown
    assert "LoPAClassifier - fit" in shown
    assert "100%" in shown


def test_a_fit_that_fails_at_once_stays_unfitted_and_tears_callbacks_down(
    monkeypatch, make_classifier, reviews
):
    diverge(monkeypatch, in_epoch=1)
    recorder = Recorder()
    clf = make_classifier().set_callbacks(recorder)
    with pytest.raises(FitFailed, match="not fitted"):
        clf.fit(*reviews)
    assert not clf.__sklearn_is_fitted__()
    assert recorder.of("end") == []
    assert recorder.of("teardown") == [("fit", 0)]
    assert recorder.scores == []


def test_a_fit_that_fails_later_keeps_the_state_before(monkeypatch, make_classifier, reviews):
    diverge(monkeypatch, in_epoch=3)
    recorder = Recorder()
    clf = make_classifier(max_iter=4).set_callbacks(recorder)
    with pytest.raises(FitFailed, match="epoch 3"):
        clf.fit(*reviews)
    assert clf.n_iter_ == 2
    assert recorder.of("end") == [("epoch", 0), ("epoch", 1)]
    assert clf.score(*reviews) == recorder.scores[-1]


def test_what_a_callback_raises_comes_through_and_leaves_the_estimator_unfitted(
    make_classifier, reviews
):
    class Broken(Recorder):
        def on_fit_task_end(self, estimator, context, *, fitted_estimator):
            raise ZeroDivisionError

    clf = make_classifier().set_callbacks(Broken())
    with pytest.raises(ZeroDivisionError):
        clf.fit(*reviews)
    assert not clf.__sklearn_is_fitted__()
    assert not hasattr(clf, "_callback_fit_ctx")


def test_a_fit_with_nothing_to_train_is_still_a_task(make_classifier, reviews):
    recorder = Recorder()
    clf = make_classifier(
        prompt_length=0, head="verbalizer", verbalizer={"pos": "good", "neg": "bad"}
    )
    clf.set_callbacks(recorder).fit(*reviews)
    assert recorder.of("begin") == recorder.of("end") == [("fit", 0)]
    assert recorder.scores == [clf.score(*reviews)]
