"""How a fit runs, stops, goes on, and comes out the same again."""

import functools
import inspect
import time
from contextlib import contextmanager

import numpy as np
import pytest
from helpers import COLOURS, assert_same_state, weights_of, with_weights
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

from sklopa import LoPAClassifier
from sklopa._tasks.classification import SingleLabel
from sklopa._training import loop, progress
from sklopa._training.loop import Trainer
from sklopa.errors import InvalidArchive, SklopaError

# ---------------------------------------------------------------- parameters, fit and refit


def test_refit_equals_fit(make_classifier, reviews, colours):
    clf = make_classifier().fit(*colours).fit(*reviews)
    once = make_classifier().fit(*reviews)
    assert_same_state(clf, once)
    np.testing.assert_array_equal(clf.classes_, once.classes_)
    assert clf.loss_curve_ == once.loss_curve_


@pytest.mark.parametrize(
    "options", [{"dropout": 0.5}, {"train_encoder": True}, {"rank": 0}], ids=str
)
def test_same_random_state_gives_the_same_bits(make_classifier, reviews, options):
    one, other = (make_classifier(**options).fit(*reviews) for _ in range(2))
    assert_same_state(one, other)
    np.testing.assert_array_equal(
        one.decision_function(reviews[0]), other.decision_function(reviews[0])
    )


def test_random_state_instance_and_integer_agree_and_other_seeds_differ(make_classifier, reviews):
    by_integer, by_instance, other = (
        make_classifier(random_state=state, max_iter=1).fit(*reviews)
        for state in (3, np.random.RandomState(3), 4)
    )
    assert_same_state(by_integer, by_instance)
    assert (by_integer.generate_prompts(["good"]) != other.generate_prompts(["good"])).any()


def test_fit_returns_self_and_does_not_change_parameters(make_classifier, reviews):
    clf = make_classifier()
    before = clf.get_params()
    assert clf.fit(*reviews) is clf
    after = clf.get_params()
    assert before.keys() == after.keys()
    assert all(after[name] is value for name, value in before.items())


def test_clone_has_the_parameters_and_nothing_fitted(fitted):
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    assert copy.model is fitted.model
    assert not [name for name in vars(copy) if name.endswith("_")]
    assert not hasattr(copy, "_weights")


def test_every_constructor_parameter_is_stored_as_given():
    names = list(inspect.signature(LoPAClassifier).parameters)
    given = {name: object() for name in names}
    clf = LoPAClassifier(**given)
    assert clf.get_params(deep=False) == given
    other = {name: object() for name in names}
    assert clf.set_params(**other) is clf
    assert clf.get_params(deep=False) == other
    with pytest.raises(ValueError, match="Invalid parameter 'ranks'"):
        clf.set_params(ranks=3)


def test_parameters_after_model_are_keyword_only():
    kinds = [p.kind for p in inspect.signature(LoPAClassifier).parameters.values()]
    assert set(kinds[1:]) == {inspect.Parameter.KEYWORD_ONLY}


def test_printing_and_cloning_take_no_time_and_load_no_model():
    clf = LoPAClassifier("no/such-model", rank=2)
    assert repr(clf) == "LoPAClassifier(model='no/such-model', rank=2)"
    for do in (clone, repr, lambda estimator: estimator._repr_html_()):
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            do(clf)
            seconds.append(time.perf_counter() - start)
        assert min(seconds) < 0.05


def test_html_repr_shows_the_parameters_of_fitted_and_unfitted(fitted):
    assert "Not fitted" in LoPAClassifier(rank=3)._repr_html_()
    html = fitted._repr_html_()
    assert "LoPAClassifier" in html
    assert "prompt_length" in html


def test_methods_after_fit_use_the_fitted_shape_and_not_new_parameters(make_classifier, reviews):
    clf = make_classifier(max_iter=1).fit(*reviews)
    before = clf.decision_function(reviews[0])
    clf.set_params(rank=1, prompt_length=7, gate="add", max_length=4)
    np.testing.assert_array_equal(clf.decision_function(reviews[0]), before)


# ---------------------------------------------------------------- how a fit runs


def scripted_scores(monkeypatch, scores):
    """Make validation return `scores`, and record the state at each of them."""
    states, script = [], iter(scores)
    keep = loop.Trainer._keep

    def keep_and_record(self, history, record, stop_early):
        states.append(loop.snapshot(self.network))
        return keep(self, history, record, stop_early)

    monkeypatch.setattr(loop.Trainer, "_keep", keep_and_record)
    monkeypatch.setattr(SingleLabel, "score", lambda self, outputs, rows: next(script))
    return states


def assert_state(clf, state):
    assert weights_of(clf).keys() == state.keys()
    for name, value in weights_of(clf).items():
        np.testing.assert_array_equal(value, state[name].numpy(), err_msg=name)


def test_history_loss_curve_and_n_iter_tell_the_same_story(make_classifier, reviews):
    clf = make_classifier(max_iter=4).fit(*reviews)
    assert clf.n_iter_ == len(clf.history_) == len(clf.loss_curve_) == 4
    assert [record["epoch"] for record in clf.history_] == [1, 2, 3, 4]
    assert [record["loss"] for record in clf.history_] == clf.loss_curve_
    assert all(record["seconds"] > 0 for record in clf.history_)
    assert all(0 <= record["training_score"] <= 1 for record in clf.history_)
    rates = [record["learning_rate"] for record in clf.history_]
    assert 0 < min(rates) <= max(rates) <= clf.learning_rate
    assert clf.validation_scores_ is None
    assert clf.best_validation_score_ is None


def test_training_stops_when_the_loss_no_longer_falls(make_classifier, reviews):
    clf = make_classifier(max_iter=50, tol=1e9, n_iter_no_change=2).fit(*reviews)
    assert clf.n_iter_ < 6


def test_early_stopping_restores_the_best_state(monkeypatch, make_classifier, reviews):
    states = scripted_scores(monkeypatch, [0.1, 0.9, 0.2, 0.3, 0.4, 0.5])
    clf = make_classifier(max_iter=6, early_stopping=True, n_iter_no_change=2, learning_rate=0.05)
    clf.fit(*reviews)
    assert clf.validation_scores_ == [0.1, 0.9, 0.2, 0.3]
    assert clf.best_validation_score_ == 0.9
    assert clf.n_iter_ == 4
    assert [record["validation_score"] for record in clf.history_] == clf.validation_scores_
    assert (states[1]["prompt.task"] != states[3]["prompt.task"]).any()
    assert_state(clf, states[1])
    np.testing.assert_array_equal(
        clf.decision_function(reviews[0]),
        make_restored(clf, states[1]).decision_function(reviews[0]),
    )


def make_restored(clf, state):
    """What `clf` would be with its live network gone and `state` as its weights."""
    return with_weights(clf, {name: value.numpy() for name, value in state.items()})


def test_early_stopping_holds_out_a_stratified_fraction(monkeypatch, make_classifier, reviews):
    seen = []
    monkeypatch.setattr(
        SingleLabel, "score", lambda _, __, rows: seen.append(rows.target.tolist()) or 0.5
    )
    make_classifier(max_iter=1, early_stopping=True, validation_fraction=0.25).fit(*reviews)
    assert sorted(seen[0]) == [0] * 3 + [1] * 3


def test_early_stopping_works_with_a_class_of_a_single_row(make_classifier, reviews):
    texts, labels = reviews
    for seed in range(4):
        clf = make_classifier(max_iter=1, early_stopping=True, random_state=seed)
        clf.fit([*texts, "maybe"], [*labels, "unsure"])
        assert clf.classes_.tolist() == ["neg", "pos", "unsure"]


def test_validation_score_is_the_accuracy_on_the_given_rows(make_classifier, reviews):
    texts, labels = reviews
    clf = make_classifier(max_iter=3, early_stopping=True, n_iter_no_change=9)
    clf.fit(texts[:16], labels[:16], X_val=texts[16:], y_val=labels[16:])
    assert len(clf.validation_scores_) == 3
    assert clf.best_validation_score_ == max(clf.validation_scores_)
    assert clf.score(texts[16:], labels[16:]) == clf.best_validation_score_


def test_given_validation_rows_are_watched_and_do_not_change_the_model(make_classifier, reviews):
    texts, labels = reviews
    clf = make_classifier().fit(texts, labels, X_val=texts[:5], y_val=labels[:5])
    assert len(clf.validation_scores_) == clf.n_iter_
    assert clf.validation_scores_[-1] == clf.score(texts[:5], labels[:5])
    assert_same_state(clf, make_classifier().fit(texts, labels))


def test_warm_start_goes_on_from_the_present_state(make_classifier, reviews):
    clf = make_classifier(max_iter=2, warm_start=True).fit(*reviews)
    before = clf.decision_function(reviews[0])
    clf.set_params(learning_rate=1e-30).fit(*reviews)
    np.testing.assert_array_equal(clf.decision_function(reviews[0]), before)
    clf.set_params(learning_rate=1e-2).fit(*reviews)
    assert np.abs(clf.decision_function(reviews[0]) - before).max() > 1e-3


def test_warm_start_goes_on_with_the_history(make_classifier, reviews):
    clf = make_classifier(max_iter=2, warm_start=True, early_stopping=True)
    clf.fit(*reviews).fit(*reviews)
    assert clf.n_iter_ == len(clf.loss_curve_) == len(clf.history_) == 4
    assert [record["epoch"] for record in clf.history_] == [1, 2, 3, 4]
    assert [record["validation_score"] for record in clf.history_] == clf.validation_scores_


def test_warm_start_refuses_other_classes(make_classifier, reviews):
    texts, labels = reviews
    clf = make_classifier(max_iter=1, warm_start=True).fit(texts, labels)
    with pytest.raises(SklopaError, match="not among the classes") as caught:
        clf.fit(texts, ["yes" if label == "pos" else "no" for label in labels])
    assert isinstance(caught.value, ValueError)
    assert clf.classes_.tolist() == ["neg", "pos"]


def test_without_warm_start_fit_starts_anew(make_classifier, reviews, colours):
    clf = make_classifier(max_iter=2).fit(*reviews).fit(*colours)
    assert clf.classes_.tolist() == sorted(COLOURS)
    assert clf.n_iter_ == 2


def test_partial_fit_learns_one_epoch_a_call(make_classifier, reviews):
    texts, labels = reviews
    clf = make_classifier(learning_rate=1e-2, dropout=0.0)
    for _ in range(25):
        assert clf.partial_fit(texts, labels, classes=["neg", "pos"]) is clf
    assert clf.n_iter_ == len(clf.loss_curve_) == len(clf.history_) == 25
    assert [record["epoch"] for record in clf.history_] == list(range(1, 26))
    assert clf.loss_curve_[-1] < 0.8 * clf.loss_curve_[0]
    assert clf.score(texts, labels) > 0.8


def test_partial_fit_takes_classes_that_come_later(make_classifier, colours):
    texts, labels = colours
    clf = make_classifier()
    clf.partial_fit(texts[:1], labels[:1], classes=COLOURS)
    assert clf.classes_.tolist() == sorted(COLOURS)
    assert clf.predict_proba(texts).shape == (len(texts), 3)
    before = clf.decision_function(texts)
    clf.partial_fit(texts, labels)
    assert (clf.decision_function(texts) != before).any()


def test_partial_fit_goes_on_after_fit_and_takes_weights(make_classifier, reviews):
    texts, labels = reviews
    one, other = (make_classifier(max_iter=2).fit(texts, labels) for _ in range(2))
    one.partial_fit(texts, labels)
    other.partial_fit([*texts, "bad"], [*labels, "pos"], sample_weight=[1.0] * len(texts) + [0.0])
    assert one.n_iter_ == 3
    assert_same_state(one, other)


def test_verbose_shows_a_bar_with_loss_on_stderr_and_silence_is_the_default(
    make_classifier, reviews, capsys
):
    make_classifier(max_iter=2).fit(*reviews).predict(reviews[0])
    assert capsys.readouterr() == ("", "")
    make_classifier(max_iter=2, verbose=1, early_stopping=True).fit(*reviews)
    out, err = capsys.readouterr()
    assert out == ""
    for part in ("LoPAClassifier", "100%", "row/s", "loss=", "validation="):
        assert part in err


def test_verbose_tells_how_fast_rows_are_predicted(make_classifier, reviews, capsys, monkeypatch):
    every_row = functools.partial(progress.tqdm, mininterval=0)
    monkeypatch.setattr(progress, "tqdm", every_row)
    model = make_classifier(max_iter=1).fit(*reviews).set_params(verbose=1)
    model.predict(reviews[0])
    err = capsys.readouterr().err
    assert f"{len(reviews[0])}/{len(reviews[0])}" in err
    assert "row/s" in err


def interrupt(monkeypatch, in_epoch, after_steps):
    """Press Ctrl-C in some epoch, after some steps of it."""
    epoch, step = Trainer.epoch, Trainer._step
    at = {"epoch": 0, "step": 0}

    def counted_epoch(self, *args, **kwargs):
        at["epoch"] += 1
        at["step"] = 0
        return epoch(self, *args, **kwargs)

    def counted_step(self, *args):
        if at["epoch"] == in_epoch and at["step"] == after_steps:
            raise KeyboardInterrupt
        at["step"] += 1
        return step(self, *args)

    monkeypatch.setattr(Trainer, "epoch", counted_epoch)
    monkeypatch.setattr(Trainer, "_step", counted_step)


@contextmanager
def stopped(text):
    """The interrupt goes on, and a warning says what was kept."""
    with pytest.warns(ConvergenceWarning, match=text), pytest.raises(KeyboardInterrupt):
        yield


def test_an_interrupted_search_stops(monkeypatch, make_classifier, reviews):
    interrupt(monkeypatch, in_epoch=2, after_steps=1)
    search = GridSearchCV(make_classifier(max_iter=5), {"rank": [0, 1]}, cv=2)
    with stopped("interrupted in epoch 2 of 5"):
        search.fit(*reviews)
    assert not hasattr(search, "cv_results_")


def test_interrupted_fit_keeps_the_best_state_and_says_so(monkeypatch, make_classifier, reviews):
    states = scripted_scores(monkeypatch, [0.9, 0.1, 0.2])
    interrupt(monkeypatch, in_epoch=3, after_steps=1)
    clf = make_classifier(max_iter=5, early_stopping=True)
    with stopped("interrupted in epoch 3 of 5"):
        clf.fit(*reviews)
    assert clf.n_iter_ == len(clf.loss_curve_) == 2
    assert clf.best_validation_score_ == 0.9
    assert_state(clf, states[0])


def test_interrupted_fit_without_validation_keeps_the_last_whole_epoch(
    monkeypatch, make_classifier, reviews
):
    texts, labels = reviews
    states = scripted_scores(monkeypatch, [0.9, 0.1, 0.2])
    interrupt(monkeypatch, in_epoch=3, after_steps=2)
    clf = make_classifier(max_iter=5)
    with stopped("interrupted in epoch 3 of 5"):
        clf.fit(texts, labels, X_val=texts, y_val=labels)
    assert clf.n_iter_ == 2
    assert_state(clf, states[1])


def test_fit_interrupted_in_its_first_epoch_can_predict(monkeypatch, make_classifier, reviews):
    interrupt(monkeypatch, in_epoch=1, after_steps=1)
    clf = make_classifier(max_iter=5)
    with stopped("epoch 1 of 5"):
        clf.fit(*reviews)
    assert clf.n_iter_ == 0
    assert np.isfinite(clf.decision_function(reviews[0])).all()


# ---------------------------------------------------------------- going on, and rows that count


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"prompt_length": 20}, "prompt_length=20 (was 3)"),
        ({"rank": 0}, "rank=0 (was 2)"),
        ({"gate": "add"}, "gate='add'"),
        ({"depth": "deep"}, "depth='deep'"),
        ({"bottleneck": 9}, "bottleneck=9"),
        ({"dropout": 0.5}, "dropout=0.5"),
        ({"prompt_layer": 1}, "prompt_layer=1"),
        ({"max_length": 4}, "max_length=4"),
        ({"train_encoder": True}, "train_encoder=True"),
    ],
)
def test_a_fit_that_goes_on_refuses_another_network_by_name(
    make_classifier, reviews, changes, named
):
    clf = make_classifier(warm_start=True, max_iter=1).fit(*reviews).set_params(**changes)
    expected = clf.predict_proba(reviews[0])
    for call in (clf.fit, clf.partial_fit):
        with pytest.raises(SklopaError) as caught:
            call(*reviews)
        assert named in str(caught.value)
        assert "warm_start=False" in str(caught.value)
    np.testing.assert_array_equal(clf.predict_proba(reviews[0]), expected)


def test_a_fit_that_goes_on_refuses_pairs_after_texts_and_stays_usable(make_classifier, reviews):
    clf = make_classifier(warm_start=True, max_iter=1).fit(*reviews)
    with pytest.raises(SklopaError, match="2 features"):
        clf.fit([(text, text) for text in reviews[0]], reviews[1])
    assert clf.predict(reviews[0]).shape == (len(reviews[0]),)


def test_rows_of_weight_zero_are_neither_learned_from_nor_watched(make_classifier, reviews):
    texts, labels = map(list, reviews)
    wrong = ["pos" if label == "neg" else "neg" for label in labels]
    weights = [1.0] * len(texts) + [0.0] * len(texts)
    options = {"early_stopping": True, "validation_fraction": 0.25, "max_iter": 4}
    alone = make_classifier(**options).fit(texts, labels)
    beside = make_classifier(**options).fit(texts + texts, labels + wrong, sample_weight=weights)
    assert beside.validation_scores_ == alone.validation_scores_
    assert_same_state(beside, alone)


def test_validation_scores_count_rows_by_their_weight(make_classifier, reviews, monkeypatch):
    texts, labels = reviews
    clf = make_classifier(early_stopping=True, validation_fraction=0.5, max_iter=1)
    seen = []
    monkeypatch.setattr(SingleLabel, "score", lambda _, __, rows: seen.append(rows) or 0.5)
    clf.fit(texts, labels, sample_weight=np.arange(1, len(texts) + 1))
    weights = seen[0].weights()
    assert len(set(weights.tolist())) == len(weights)


# ---------------------------------------------------------------- partial_fit and pickles


def stored(clf, **changes):
    """What a pickle gives back; live models are not put into one."""
    made = type(clf).__new__(type(clf))
    made.__setstate__(clf.__getstate__() | changes)
    return made


@pytest.mark.parametrize("begin", ["fit", "partial_fit", "one of each"])
@pytest.mark.parametrize("times", [1, 2])
def test_partial_fit_goes_on_alike_after_a_pickle(make_classifier, reviews, begin, times):
    texts, labels = reviews
    clf = make_classifier(dropout=0.3, max_iter=1)
    if begin != "partial_fit":
        clf.fit(texts, labels)
    if begin != "fit":
        clf.partial_fit(texts[::2], labels[::2], classes=["neg", "pos"])
    with_pickles = stored(clf)
    for _ in range(times):
        clf.partial_fit(texts, labels)
        with_pickles = stored(with_pickles).partial_fit(texts, labels)
    assert_same_state(clf, with_pickles)


def test_partial_fit_begins_as_well_as_fit_does(make_classifier, reviews):
    texts, labels = reviews
    clf = make_classifier(prompt_length=0, rank=0, learning_rate=1e-9)
    expected = clf.fit(texts, labels).decision_function(texts)
    clf = make_classifier(prompt_length=0, rank=0, learning_rate=1e-9)
    clf.partial_fit(texts, labels, classes=["neg", "pos"])
    np.testing.assert_allclose(clf.decision_function(texts), expected, atol=1e-4)


def test_a_class_that_comes_later_is_not_taken_to_be_rare(make_classifier, colours):
    texts, labels = colours
    some = [i for i, label in enumerate(labels) if label != "blue"]
    clf = make_classifier(max_iter=1)
    clf.partial_fit([texts[i] for i in some], [labels[i] for i in some], classes=COLOURS)
    p = clf.predict_proba([text for text, label in zip(texts, labels, strict=True)
                           if label == "blue"])[:, list(clf.classes_).index("blue")]  # fmt: skip
    assert p.min() > 0.1


@pytest.mark.parametrize("change", [
    lambda kept: 3,
    lambda kept: kept | {"more": 1},
    lambda kept: kept | {"order": "x"},
    lambda kept: kept | {"moments": {"0": {}}},
    lambda kept: kept | {"plan": {"max_iter": print}},
])  # fmt: skip
def test_a_forged_state_to_go_on_from_is_refused(make_classifier, reviews, change):
    clf = make_classifier().partial_fit(*reviews, classes=["neg", "pos"])
    state = clf.__getstate__()
    with pytest.raises(InvalidArchive):
        stored(clf, _training=change(state["_training"]))


def test_moments_of_other_shapes_are_refused(make_classifier, reviews):
    clf = make_classifier().partial_fit(*reviews, classes=["neg", "pos"])
    state = clf.__getstate__()
    moments = {k: {n: np.zeros((2, 2), np.float32) for n in v}
               for k, v in state["_training"]["moments"].items()}  # fmt: skip
    other = stored(clf, _training=state["_training"] | {"moments": moments})
    with pytest.raises(InvalidArchive, match="does not fit its weights"):
        other.partial_fit(*reviews)
