"""What scikit-learn promises of any estimator, for lists of texts: our own contract suite."""

import inspect
import json
import os
import random
import subprocess
import sys
import time
import warnings
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
import sklearn
import tiny
import torch
import transformers
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_validate
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.class_weight import compute_class_weight

import sklopa
from sklopa import Backbone, LoPAClassifier
from sklopa._loading import load
from sklopa._training import Trainer
from sklopa.errors import SklopaError, TruncationWarning

CLOSE = {"rtol": 0, "atol": 1e-4}  # float32 logits that were computed in other batches
COLOURS = ["red", "green", "blue"]


@pytest.fixture(scope="module")
def colours():
    """18 texts of three classes, of very different lengths."""
    frames = ["{}", "the {} book", "it was {}", "a {} film and a plot", "not a {} one", "{} " * 9]
    texts = [frame.format(*[colour] * 9) for frame in frames for colour in COLOURS]
    return texts, COLOURS * len(frames)


@pytest.fixture(scope="module")
def fitted3(colours):
    """A fitted classifier of three classes to read from; tests do not change it."""
    clf = LoPAClassifier(
        tiny.backbone(), prompt_length=3, rank=2, bottleneck=8, max_iter=3, random_state=0
    )
    return clf.fit(*colours)


@pytest.fixture(scope="module")
def pairs():
    """Pairs of texts whose label says whether both are the same word."""
    words = ["good", "bad", "film", "book"]
    rows = [(a, b) for a in words for b in words]
    return rows, ["same" if a == b else "other" for a, b in rows]


def assert_same_state(one, other):
    """Both hold the same trained values, bit for bit."""
    assert one._weights.keys() == other._weights.keys()
    for name, value in one._weights.items():
        np.testing.assert_array_equal(value, other._weights[name], err_msg=name)


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


# ---------------------------------------------------------------- labels and probabilities


@pytest.mark.parametrize(
    "labels",
    [
        ["neg", "pos"], [7, -2], [True, False], [0.0, 1.0], np.array(["b", "a"], dtype=object),
        np.array([3, 200], dtype=np.uint8),
    ],
    ids=["str", "int", "bool", "float", "object", "uint8"],
)  # fmt: skip
def test_labels_of_any_kind_come_back_as_they_were(make_classifier, reviews, labels):
    texts, words = reviews
    y = np.asarray(labels)[[int(word == "pos") for word in words]]
    clf = make_classifier(max_iter=1).fit(texts, y)
    predicted = clf.predict(texts)
    np.testing.assert_array_equal(clf.classes_, np.unique(y))
    assert predicted.dtype == clf.classes_.dtype == y.dtype
    assert predicted.shape == (len(texts),)
    assert (predicted == y).mean() > 0.6


@pytest.mark.parametrize("labels_as", [list, tuple, np.array, pd.Series, pl.Series])
def test_labels_may_come_in_any_container(make_classifier, reviews, labels_as):
    texts, labels = reviews
    clf = make_classifier(max_iter=1).fit(texts, labels_as(labels))
    assert clf.classes_.tolist() == ["neg", "pos"]
    assert (
        clf.predict(texts).tolist()
        == make_classifier(max_iter=1).fit(*reviews).predict(texts).tolist()
    )


def test_predict_is_the_class_of_the_largest_probability(fitted, fitted3, reviews, colours):
    for clf, (texts, _) in ((fitted, reviews), (fitted3, colours)):
        probabilities = clf.predict_proba(texts)
        assert probabilities.shape == (len(texts), len(clf.classes_))
        np.testing.assert_array_equal(
            clf.classes_[probabilities.argmax(axis=1)], clf.predict(texts)
        )
        np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=0, atol=1e-12)
        np.testing.assert_allclose(np.exp(clf.predict_log_proba(texts)), probabilities, rtol=1e-9)


def test_decision_function_orders_as_the_probabilities_do(fitted, fitted3, reviews, colours):
    binary = fitted.decision_function(reviews[0])
    assert binary.shape == (len(reviews[0]),)
    np.testing.assert_array_equal(
        fitted.classes_[(binary > 0).astype(int)], fitted.predict(reviews[0])
    )
    many = fitted3.decision_function(colours[0])
    assert many.shape == (len(colours[0]), 3)
    np.testing.assert_array_equal(
        fitted3.classes_[many.argmax(axis=1)], fitted3.predict(colours[0])
    )


def test_score_is_the_accuracy(fitted3, colours):
    texts, labels = colours
    assert fitted3.score(texts, labels) == np.mean(fitted3.predict(texts) == np.array(labels))
    weights = np.arange(len(texts))
    right = fitted3.predict(texts) == np.array(labels)
    assert fitted3.score(texts, labels, sample_weight=weights) == pytest.approx(
        np.average(right, weights=weights)
    )


def test_it_learns_what_one_word_says(make_classifier, reviews):
    clf = make_classifier(max_iter=25, dropout=0.0, learning_rate=1e-2).fit(*reviews)
    assert clf.score(*reviews) > 0.95
    assert clf.loss_curve_[-1] < 0.8 * clf.loss_curve_[0]


# ---------------------------------------------------------------- rows do not see each other


@pytest.mark.parametrize("method", ["decision_function", "predict", "predict_proba", "transform"])
def test_permuting_rows_permutes_the_results(fitted3, colours, method):
    texts = colours[0]
    order = np.random.RandomState(0).permutation(len(texts))
    run = getattr(fitted3, method)
    expected, got = run(texts)[order], run([texts[i] for i in order])
    if method == "predict":
        np.testing.assert_array_equal(got, expected)
    else:
        np.testing.assert_allclose(got, expected, **CLOSE)


def test_splitting_rows_splits_the_results(fitted3, colours):
    texts = colours[0]
    together = fitted3.decision_function(texts)
    alone = np.concatenate([fitted3.decision_function([text]) for text in texts])
    np.testing.assert_allclose(alone, together, **CLOSE)
    assert [fitted3.predict([text])[0] for text in texts] == fitted3.predict(texts).tolist()


@pytest.mark.parametrize("batch_size", [1, 3, 1000])
def test_predict_does_not_depend_on_batch_size(make_classifier, colours, batch_size):
    texts = colours[0]
    clf = make_classifier(max_iter=1).fit(*colours)
    expected, prompts = clf.decision_function(texts), clf.generate_prompts(texts)
    clf.set_params(batch_size=batch_size)
    np.testing.assert_allclose(clf.decision_function(texts), expected, **CLOSE)
    np.testing.assert_allclose(clf.generate_prompts(texts), prompts, **CLOSE)


def test_predict_twice_gives_the_same_bits(fitted3, colours):
    np.testing.assert_array_equal(
        fitted3.decision_function(colours[0]), fitted3.decision_function(colours[0])
    )


def test_predicting_changes_nothing_of_the_estimator(fitted3, colours):
    before = dict(vars(fitted3))
    for method in ("predict", "predict_proba", "transform", "generate_prompts"):
        getattr(fitted3, method)(colours[0][:5])
    assert all(vars(fitted3)[name] is value for name, value in before.items())
    assert vars(fitted3).keys() == before.keys()


def test_repeated_texts_get_equal_results(fitted3):
    logits = fitted3.decision_function(["red book", "blue film", "red book"])
    np.testing.assert_allclose(logits[0], logits[2], **CLOSE)


# ---------------------------------------------------------------- what X may be


def _memory_map(texts, folder):
    array = np.array(texts)
    stored = np.memmap(folder / "X.npy", dtype=array.dtype, mode="w+", shape=array.shape)
    stored[:] = array
    stored.flush()
    return np.memmap(folder / "X.npy", dtype=array.dtype, mode="r", shape=array.shape)


TEXT_CONTAINERS = {
    "list": list,
    "tuple": tuple,
    "object_array": lambda texts: np.array(texts, dtype=object),
    "unicode_array": np.array,
    "column_array": lambda texts: np.array(texts, dtype=object)[:, None],
    "list_of_numpy_str": lambda texts: [np.str_(text) for text in texts],
    "list_of_1_tuples": lambda texts: [(text,) for text in texts],
    "pandas_series": lambda texts: pd.Series(texts, index=range(9, 9 + len(texts))),
    "pandas_object_series": lambda texts: pd.Series(texts, dtype=object),
    "pandas_categorical": lambda texts: pd.Series(texts, dtype="category"),
    "pandas_index": pd.Index,
    "pandas_frame": lambda texts: pd.DataFrame({"review": texts}),
    "polars_series": pl.Series,
    "polars_frame": lambda texts: pl.DataFrame({"review": texts}),
}


@pytest.mark.parametrize("container", TEXT_CONTAINERS)
def test_texts_in_any_container_give_the_same_model(make_classifier, colours, fitted3, container):
    texts, labels = colours
    X = TEXT_CONTAINERS[container](texts)
    clf = make_classifier(max_iter=3, batch_size=32).fit(X, labels)
    assert_same_state(clf, fitted3)
    np.testing.assert_array_equal(clf.decision_function(X), fitted3.decision_function(texts))
    assert clf.n_features_in_ == 1


def test_texts_in_a_memory_map_give_the_same_results(fitted3, colours, tmp_path):
    X = _memory_map(colours[0], tmp_path)
    np.testing.assert_array_equal(fitted3.predict(X), fitted3.predict(colours[0]))


PAIR_CONTAINERS = {
    "list_of_lists": lambda rows: [list(row) for row in rows],
    "object_array": lambda rows: np.array(rows, dtype=object),
    "unicode_array": np.array,
    "pandas_frame": lambda rows: pd.DataFrame(rows, columns=["first", "second"]),
    "polars_frame": lambda rows: pl.DataFrame(rows, schema=["first", "second"], orient="row"),
}


@pytest.mark.parametrize("container", PAIR_CONTAINERS)
def test_pairs_in_any_container_give_the_same_model(make_classifier, pairs, container):
    rows, labels = pairs
    expected = make_classifier(max_iter=1).fit(rows, labels)
    X = PAIR_CONTAINERS[container](rows)
    clf = make_classifier(max_iter=1).fit(X, labels)
    assert_same_state(clf, expected)
    np.testing.assert_array_equal(clf.decision_function(X), expected.decision_function(rows))
    assert clf.n_features_in_ == 2


def test_both_texts_of_a_pair_and_their_order_matter(make_classifier, pairs):
    clf = make_classifier(max_iter=1).fit(*pairs)
    logits = clf.decision_function([("good", "bad"), ("bad", "good"), ("good", "film")])
    assert len(np.unique(logits.round(5))) == 3


def test_feature_names_are_kept_from_frames_and_dropped_on_refit(make_classifier, colours):
    texts, labels = colours
    frame = pd.DataFrame({"review": texts})
    clf = make_classifier(max_iter=1).fit(frame, labels)
    assert clf.feature_names_in_.tolist() == ["review"]
    assert clf.feature_names_in_.dtype == object
    assert clf.predict(texts).tolist() == clf.predict(frame).tolist()
    with pytest.raises(SklopaError, match="feature names should match"):
        clf.predict(frame.rename(columns={"review": "text"}))
    assert not hasattr(clf.fit(texts, labels), "feature_names_in_")
    assert not hasattr(clf.fit(pd.DataFrame({0: texts}), labels), "feature_names_in_")


def test_inputs_are_never_changed(make_classifier, colours):
    texts, labels = list(colours[0]), list(colours[1])
    weights = [1.0] * len(texts)
    make_classifier(max_iter=1).fit(texts, labels, weights, texts, labels).predict(texts)
    assert texts == colours[0]
    assert labels == colours[1]
    assert weights == [1.0] * len(texts)


def test_read_only_arrays_work(make_classifier, colours):
    X, y = np.array(colours[0], dtype=object), np.array(colours[1])
    weights = np.ones(len(X))
    for array in (X, y, weights):
        array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf = make_classifier(max_iter=1).fit(X, y, weights, X, y)
        assert clf.predict(X).shape == y.shape


# ---------------------------------------------------------------- odd texts


def test_an_empty_text_is_a_text(make_classifier, colours):
    texts, labels = colours
    clf = make_classifier(max_iter=1).fit([*texts, "", " "], [*labels, "red", "blue"])
    assert np.isfinite(clf.decision_function(["", "  ", "red"])).all()


@pytest.mark.parametrize("model_type", ["gpt2", "llama"])
def test_an_empty_text_is_a_text_where_there_are_no_special_tokens(
    colours, make_classifier, model_type
):
    texts, labels = colours
    clf = make_classifier(model=tiny.backbone(model_type), max_iter=1)
    clf.fit([*texts, ""], [*labels, "red"])
    assert np.isfinite(clf.decision_function(["", "red"])).all()


def test_missing_texts_are_read_as_empty_ones_on_request(make_classifier, colours):
    texts, labels = colours
    clf = make_classifier(max_iter=1, nulls="empty")
    expected = clf.fit(["", "", "", *texts], ["red"] * 3 + labels).decision_function(["", "red"])
    clf.fit([None, float("nan"), pd.NA, *texts], ["red"] * 3 + labels)
    np.testing.assert_array_equal(clf.decision_function([None, "red"]), expected)
    series = pd.Series([None, "red"], dtype="str")
    np.testing.assert_array_equal(clf.decision_function(series), expected)


@pytest.mark.parametrize("length", [5, None], ids=["max_length", "backbone"])
def test_long_texts_are_truncated_counted_and_reported_once_a_call(
    make_classifier, reviews, length
):
    texts, labels = reviews
    long = ["good " * 100, "awful " * 100]
    limit = length or tiny.POSITIONS - 3
    clf = make_classifier(max_iter=1, max_length=length)
    n_long = sum(len(text.split()) + 2 > limit for text in texts + long)
    with pytest.warns(TruncationWarning, match=f"{n_long} of 26 texts .* {limit} tokens") as caught:
        clf.fit(texts + long, [*labels, "pos", "neg"])
    assert len(caught) == 1
    assert clf.n_truncated_ == n_long
    for method in (clf.predict, clf.predict_proba, clf.transform, clf.generate_prompts):
        with pytest.warns(TruncationWarning, match="2 of 2") as caught:
            method(long)
        assert len(caught) == 1
    assert clf.n_truncated_ == n_long


def test_a_truncated_text_reads_as_its_beginning(make_classifier, reviews):
    clf = make_classifier(max_iter=1, max_length=5).fit(["good film", "bad plot"] * 4, [1, 0] * 4)
    assert clf.n_truncated_ == 0
    with pytest.warns(TruncationWarning):
        cut = clf.decision_function(["the film was good and very red"])
    np.testing.assert_allclose(cut, clf.decision_function(["the film was"]), **CLOSE)


def test_long_texts_of_training_and_validation_are_reported_in_one_warning(
    make_classifier, reviews
):
    texts, labels = reviews
    long = ["good " * 100, "awful " * 100]
    with pytest.warns(TruncationWarning) as caught:
        make_classifier(max_iter=1).fit(
            texts + long, [*labels, "pos", "neg"], X_val=long, y_val=["pos", "neg"]
        )
    assert len(caught) == 1
    assert "4 of 28 texts" in str(caught[0].message)


# ---------------------------------------------------------------- weights of rows and classes


@pytest.mark.parametrize("weight", [None, "balanced"])
def test_a_row_of_weight_zero_is_a_row_left_out(make_classifier, colours, weight):
    texts, labels = colours
    clf = make_classifier(class_weight=weight).fit(
        [*texts, "green", "green book"], [*labels, "red", "blue"], [1.0] * len(texts) + [0.0, 0.0]
    )
    assert_same_state(clf, make_classifier(class_weight=weight).fit(texts, labels))


def test_a_class_whose_rows_all_weigh_zero_is_kept_as_a_class(make_classifier, colours):
    texts, labels = colours
    weights = [float(label != "blue") for label in labels]
    clf = make_classifier().fit(texts, labels, weights)
    assert clf.classes_.tolist() == sorted(COLOURS)
    assert "blue" not in clf.predict(texts)


def test_rows_of_more_weight_pull_the_predictions_to_their_class(make_classifier, colours):
    texts, labels = colours
    weights = [20.0 if label == "blue" else 1.0 for label in labels]
    plain = make_classifier().fit(texts, labels).predict_proba(texts)
    pulled = make_classifier().fit(texts, labels, sample_weight=weights).predict_proba(texts)
    blue = sorted(COLOURS).index("blue")
    assert (pulled[:, blue] > plain[:, blue] + 0.1).all()


def test_class_weight_is_sample_weight_by_class(make_classifier, reviews):
    texts, labels = reviews[0][:-8], np.array(reviews[1][:-8])
    labels[:6] = "pos"
    classes = np.unique(labels)
    balanced = compute_class_weight("balanced", classes=classes, y=labels)
    by_class = dict(zip(classes, balanced, strict=True))
    fits = [
        make_classifier(class_weight="balanced").fit(texts, labels),
        make_classifier(class_weight=by_class).fit(texts, labels),
        make_classifier().fit(texts, labels, [by_class[label] for label in labels]),
    ]
    logits = fits[0].decision_function(texts)
    for clf in fits[1:]:
        np.testing.assert_allclose(clf.decision_function(texts), logits, **CLOSE)
    plain = make_classifier().fit(texts, labels).decision_function(texts)
    assert np.abs(plain - logits).max() > 1e-3


# ---------------------------------------------------------------- several labels a row


@pytest.fixture(scope="module")
def tags():
    """Texts with any number of colours in them."""
    sets = [{c for j, c in enumerate(COLOURS) if i >> j & 1} for i in range(8)] * 3
    frames = ["the book was {}", "a {} film", "it {}"]
    texts = [frames[i // 8].format(" and ".join(sorted(s))) for i, s in enumerate(sets)]
    return texts, sets


def test_indicator_matrix_trains_one_output_a_column(make_classifier, tags):
    texts, sets = tags
    y = np.array([[colour in s for colour in sorted(COLOURS)] for s in sets], dtype=int)
    clf = make_classifier(max_iter=10, learning_rate=5e-3).fit(texts, y)
    probabilities, predicted = clf.predict_proba(texts), clf.predict(texts)
    assert probabilities.shape == predicted.shape == y.shape
    np.testing.assert_array_equal(predicted, (probabilities > 0.5).astype(int))
    np.testing.assert_array_equal(predicted, (clf.decision_function(texts) > 0).astype(int))
    assert clf.score(texts, y) == np.mean((predicted == y).all(axis=1))
    assert (predicted == y).mean() > 0.8
    assert clf.classes_.tolist() == [0, 1, 2]


def test_label_sets_and_indicators_train_the_same_model(make_classifier, tags):
    texts, sets = tags
    y = np.array([[colour in s for colour in sorted(COLOURS)] for s in sets], dtype=int)
    expected = make_classifier(max_iter=2).fit(texts, y)
    as_array = np.empty(len(sets), dtype=object)
    as_array[:] = sets
    for given in (
        sets, [sorted(s) for s in sets], [tuple(s) for s in sets], as_array, pd.Series(sets),
        scipy.sparse.csr_matrix(y), scipy.sparse.csr_array(y), pd.DataFrame(y), y.astype(bool),
        y.tolist(),
    ):  # fmt: skip
        clf = make_classifier(max_iter=2).fit(texts, given)
        assert_same_state(clf, expected)
    clf = make_classifier(max_iter=2).fit(texts, sets)
    assert clf.classes_.tolist() == sorted(COLOURS)
    np.testing.assert_array_equal(clf.predict(texts), expected.predict(texts))


def test_a_label_that_every_row_has_is_predicted_for_every_row(make_classifier, tags):
    texts, sets = tags
    clf = make_classifier(max_iter=2).fit(texts, [s | {"text"} for s in sets])
    column = clf.classes_.tolist().index("text")
    assert clf.predict(texts)[:, column].all()


def test_several_labels_a_row_can_be_validated_and_searched(make_classifier, tags):
    texts, sets = tags
    clf = make_classifier(max_iter=2, early_stopping=True, validation_fraction=0.25)
    clf.fit(texts, sets)
    assert len(clf.validation_scores_) == clf.n_iter_
    y = np.array([[colour in s for colour in COLOURS] for s in sets], dtype=int)
    search = GridSearchCV(make_classifier(max_iter=1), {"rank": [0, 2]}, cv=2).fit(texts, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


# ---------------------------------------------------------------- how a fit runs


def scripted_scores(monkeypatch, scores):
    """Make validation return `scores`, and record the state at each of them."""
    states, script = [], iter(scores)

    def score(self, rows):
        states.append({k: v.detach().clone() for k, v in self._network.state_dict().items()})
        return next(script)

    monkeypatch.setattr(LoPAClassifier, "_score_rows", score)
    return states


def assert_state(clf, state):
    assert clf._weights.keys() == state.keys()
    for name, value in clf._weights.items():
        np.testing.assert_array_equal(value, state[name].numpy(), err_msg=name)


def test_history_loss_curve_and_n_iter_tell_the_same_story(make_classifier, reviews):
    clf = make_classifier(max_iter=4).fit(*reviews)
    assert clf.n_iter_ == len(clf.history_) == len(clf.loss_curve_) == 4
    assert [record["epoch"] for record in clf.history_] == [1, 2, 3, 4]
    assert [record["loss"] for record in clf.history_] == clf.loss_curve_
    assert all(record["seconds"] > 0 for record in clf.history_)
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
    other = clone(clf)
    other.__dict__.update(clf.__getstate__())
    other._weights = {name: value.numpy() for name, value in state.items()}
    return other


def test_early_stopping_holds_out_a_stratified_fraction(monkeypatch, make_classifier, reviews):
    seen = []
    monkeypatch.setattr(
        LoPAClassifier, "_score_rows", lambda self, rows: seen.append(rows.target.tolist()) or 0.5
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


def test_interrupted_fit_keeps_the_best_state_and_says_so(monkeypatch, make_classifier, reviews):
    states = scripted_scores(monkeypatch, [0.9, 0.1, 0.2])
    interrupt(monkeypatch, in_epoch=3, after_steps=1)
    clf = make_classifier(max_iter=5, early_stopping=True)
    with pytest.warns(ConvergenceWarning, match="interrupted in epoch 3 of 5"):
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
    with pytest.warns(ConvergenceWarning, match="interrupted in epoch 3 of 5"):
        clf.fit(texts, labels, X_val=texts, y_val=labels)
    assert clf.n_iter_ == 2
    assert_state(clf, states[1])


def test_fit_interrupted_in_its_first_epoch_can_predict(monkeypatch, make_classifier, reviews):
    interrupt(monkeypatch, in_epoch=1, after_steps=1)
    clf = make_classifier(max_iter=5)
    with pytest.warns(ConvergenceWarning, match="epoch 1 of 5"):
        clf.fit(*reviews)
    assert clf.n_iter_ == 0
    assert np.isfinite(clf.decision_function(reviews[0])).all()


# ---------------------------------------------------------------- what the parts do


def test_without_a_prompt_it_is_a_linear_probe(make_classifier, colours):
    texts, labels = colours
    clf = make_classifier(prompt_length=0, max_iter=20, learning_rate=0.02).fit(texts, labels)
    assert clf.n_trainable_parameters_ == 3 * (tiny.WIDTH + 1)
    assert clf.generate_prompts(texts).shape == (len(texts), 0, tiny.WIDTH)
    assert clf.score(texts, labels) > 0.6
    other = make_classifier(prompt_length=0, max_iter=1).fit(texts, labels)
    np.testing.assert_allclose(clf.transform(texts), other.transform(texts), **CLOSE)


def test_rank_zero_is_one_prompt_for_all_texts(make_classifier, colours):
    texts, labels = colours
    clf = make_classifier(rank=0).fit(texts, labels)
    prompts = clf.generate_prompts(texts)
    assert (prompts == prompts[0]).all()
    assert clf.n_trainable_parameters_ == 3 * tiny.WIDTH + 3 * (tiny.WIDTH + 1)


@pytest.mark.parametrize("gate", ["sigmoid", "add", "max", "concat", "instance"])
def test_every_gate_makes_a_prompt_for_each_text_and_learns(make_classifier, colours, gate):
    texts, labels = colours
    clf = make_classifier(gate=gate, learning_rate=1e-2, dropout=0.0, max_iter=10)
    clf.fit(texts, labels)
    prompts = clf.generate_prompts(texts)
    assert prompts.shape == (len(texts), 6 if gate == "concat" else 3, tiny.WIDTH)
    assert prompts.dtype == np.float32
    assert (prompts[0] != prompts[1]).any()
    assert clf.loss_curve_[-1] < clf.loss_curve_[0]


def test_trained_values_are_counted(make_classifier, colours):
    P, R, H, D, C = 3, 2, 8, tiny.WIDTH, 3
    networks = 2 * (D * H + H) + (H * P * R + P * R) + (H * D * R + D * R)
    clf = make_classifier(max_iter=1).fit(*colours)
    assert clf.n_trainable_parameters_ == P * D + networks + C * (D + 1)
    assert clf.n_trainable_parameters_ == sum(value.size for value in clf._weights.values())


def test_fit_changes_no_weight_of_the_backbone(make_classifier, reviews):
    backbone = tiny.backbone()
    model = backbone.objects[0]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    make_classifier(learning_rate=0.1).fit(*reviews)
    make_classifier(
        learning_rate=0.1, head="verbalizer", verbalizer={"pos": "good", "neg": "bad"}
    ).fit(*reviews)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())


def test_another_backbone_can_be_the_encoder(make_classifier, reviews):
    encoder = Backbone.from_objects(*tiny.model("bert", hidden_size=16, seed=1))
    clf = make_classifier(encoder=encoder, learning_rate=1e-2, max_iter=10).fit(*reviews)
    assert clf.loss_curve_[-1] < clf.loss_curve_[0]
    assert clf.transform(["good"]).shape == (1, tiny.WIDTH)
    prompts = clf.generate_prompts(["good", "bad"])
    assert (prompts[0] != prompts[1]).any()
    own = make_classifier(learning_rate=1e-2, max_iter=1).fit(*reviews)
    fewer = 2 * 16 * 8  # the first layers of both networks read 16 values and not 32
    assert clf.n_trainable_parameters_ == own.n_trainable_parameters_ - fewer


def test_train_encoder_trains_a_copy_and_leaves_the_backbone(make_classifier, reviews):
    backbone = tiny.backbone()
    model = load(backbone).model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    clf = make_classifier(train_encoder=True, learning_rate=1e-2).fit(*reviews)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    body = {k.removeprefix("encoder.body."): v for k, v in clf._weights.items() if "body" in k}
    changed = [k for k, v in body.items() if (v != before[f"bert.{k}"].numpy()).any()]
    assert len(changed) > 10
    assert clf.n_trainable_parameters_ > sum(p.numel() for p in model.base_model.parameters())


@pytest.mark.parametrize("model_type", ["bert", "gpt2"])
def test_verbalizer_reads_label_words_and_trains_the_prompt_alone(
    make_classifier, reviews, model_type
):
    texts, labels = reviews
    clf = make_classifier(
        model=tiny.backbone(model_type), head="verbalizer", rank=0, max_iter=15,
        template="the {text} it was {mask}" if model_type == "bert" else "the {text} it was",
        verbalizer={"pos": "good", "neg": "bad"}, learning_rate=1e-2,
    ).fit(texts, labels)  # fmt: skip
    assert clf.n_trainable_parameters_ == 3 * tiny.WIDTH
    assert clf.loss_curve_[-1] < clf.loss_curve_[0]
    assert clf.predict_proba(texts).shape == (len(texts), 2)
    assert set(clf.predict(texts)) <= {"pos", "neg"}


@pytest.mark.parametrize("model_type", ["bert", "gpt2"])
def test_verbalizer_without_a_prompt_is_the_language_model_itself(make_classifier, model_type):
    model, tokenizer = tiny.backbone(model_type).objects
    clf = make_classifier(model=tiny.backbone(model_type), head="verbalizer", prompt_length=0)
    clf.fit(["good film", "bad plot"], ["good", "bad"])
    assert clf.n_trainable_parameters_ == 0
    assert clf.n_iter_ == 0
    text = "the film [MASK]" if model_type == "bert" else "the film"
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    place = ids[0].tolist().index(tokenizer.mask_token_id) if model_type == "bert" else -1
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, place]
    good, bad = tokenizer.convert_tokens_to_ids(["good", "bad"])
    np.testing.assert_allclose(
        clf.decision_function(["the film"]), [float(logits[good] - logits[bad])], **CLOSE
    )


def test_generated_prompts_do_change_the_logits(fitted3, colours):
    from sklopa._preparing import prepare_rows

    network = fitted3._live_network()
    rows, _ = prepare_rows(network, fitted3._design, colours[0])
    batch = rows.batch(np.arange(len(colours[0])))
    with torch.no_grad():
        prompts = network.prompts(batch)
        logits = network(batch).numpy()
        zeroed = network.head(network.features_behind(torch.zeros_like(prompts), batch)).numpy()
    np.testing.assert_allclose(fitted3.generate_prompts(colours[0]), prompts.numpy(), **CLOSE)
    np.testing.assert_allclose(fitted3.decision_function(colours[0]), logits, **CLOSE)
    assert np.abs(logits - zeroed).max() > 1e-3


# ---------------------------------------------------------------- inside scikit-learn's tools


def test_in_a_pipeline_behind_a_text_cleaner(make_classifier, reviews):
    texts, labels = reviews
    loud = [text.upper() + "!!!" for text in texts]

    def clean(rows):
        return [row.strip("!").lower() for row in rows]

    pipe = Pipeline([("clean", FunctionTransformer(clean)), ("clf", make_classifier())])
    pipe.fit(loud, labels)
    expected = make_classifier().fit(texts, labels)
    np.testing.assert_array_equal(pipe.predict_proba(loud), expected.predict_proba(texts))
    assert pipe.set_params(clf__rank=1).get_params()["clf__rank"] == 1


def test_as_a_text_column_of_a_column_transformer(make_classifier, reviews):
    texts, labels = reviews
    numbers = np.arange(len(texts), dtype=float)
    frame = pd.DataFrame({"id": numbers, "text": texts, "length": [len(t) for t in texts]})
    columns = ColumnTransformer(
        [("text", make_classifier(), "text"), ("numbers", StandardScaler(), ["id", "length"])]
    )
    features = columns.fit_transform(frame, labels)
    assert features.shape == (len(texts), tiny.WIDTH + 2)
    np.testing.assert_allclose(
        features[:, : tiny.WIDTH], make_classifier().fit(texts, labels).transform(texts), **CLOSE
    )
    names = columns.get_feature_names_out()
    assert names[0] == "text__lopaclassifier0"
    assert names[-1] == "numbers__length"
    both = Pipeline([("columns", columns), ("head", LogisticRegression())]).fit(frame, labels)
    assert both.score(frame, labels) > 0.7


def test_fit_transform_is_fit_then_transform(make_classifier, colours):
    texts, labels = colours
    features = make_classifier().fit_transform(texts, labels)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, make_classifier().fit(texts, labels).transform(texts))


def test_set_output_pandas_gives_named_columns_and_the_index(make_classifier, colours):
    texts, labels = colours
    frame = pd.DataFrame({"text": texts}, index=range(5, 5 + len(texts)))
    clf = make_classifier(max_iter=1).set_output(transform="pandas").fit(frame, labels)
    features = clf.transform(frame)
    assert isinstance(features, pd.DataFrame)
    assert features.columns.tolist() == clf.get_feature_names_out().tolist()
    assert features.columns[0] == "lopaclassifier0"
    assert features.index.equals(frame.index)
    assert features.shape == (len(texts), tiny.WIDTH)
    assert isinstance(clf.transform(texts), pd.DataFrame)
    clf.set_output(transform="polars")
    assert isinstance(clf.transform(texts), pl.DataFrame)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_grid_search_embeds_each_distinct_text_once(make_classifier, reviews, jobs):
    texts, labels = reviews[0] + reviews[0][:6], reviews[1] + reviews[1][:6]
    sklopa.cache_clear()
    with joblib.parallel_config("threading", n_jobs=jobs):
        search = GridSearchCV(
            make_classifier(max_iter=1), {"rank": [0, 1, 2], "prompt_length": [0, 2, 4]}, cv=2,
            error_score="raise", n_jobs=jobs,
        ).fit(texts, labels)  # fmt: skip
    assert len(search.cv_results_["params"]) == 9
    search.predict(texts)
    info = sklopa.cache_info()
    assert info.misses == len(set(texts)) == 24
    assert info.hits > info.misses
    assert 0 < info.bytes <= info.max_bytes


def test_search_in_threads_equals_search_in_one(make_classifier, reviews):
    scores = []
    for jobs in (1, 2):
        with joblib.parallel_config("threading", n_jobs=jobs):
            search = GridSearchCV(
                make_classifier(), {"rank": [0, 2]}, cv=2, scoring="neg_log_loss", n_jobs=jobs
            ).fit(*reviews)
        scores.append(search.cv_results_["mean_test_score"])
    np.testing.assert_allclose(scores[0], scores[1], rtol=0, atol=1e-6)


def test_cross_validation_helpers(make_classifier, reviews):
    texts, labels = reviews
    scores = cross_validate(make_classifier(), texts, labels, cv=2, error_score="raise")
    assert np.isfinite(scores["test_score"]).all()
    probabilities = cross_val_predict(
        make_classifier(), texts, labels, cv=2, method="predict_proba"
    )
    assert probabilities.shape == (len(texts), 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda clf: CalibratedClassifierCV(clf, cv=2),
        lambda clf: StackingClassifier([("a", clf), ("b", clone(clf).set_params(rank=0))], cv=2),
        lambda clf: VotingClassifier([("a", clf), ("b", clone(clf))], voting="soft"),
    ],
    ids=["calibrated", "stacking", "voting"],
)
def test_inside_an_ensemble(make_classifier, reviews, wrap):
    texts, labels = reviews
    ensemble = wrap(make_classifier(max_iter=2)).fit(texts, labels)
    assert ensemble.classes_.tolist() == ["neg", "pos"]
    probabilities = ensemble.predict_proba(texts)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-6)
    assert ensemble.score(texts, labels) > 0.6


def test_sample_weight_is_routed_where_it_is_asked_for(make_classifier, reviews):
    texts, labels = reviews
    weights = np.linspace(0.1, 3.0, len(texts))
    train, test = np.arange(16), np.arange(16, len(texts))
    with sklearn.config_context(enable_metadata_routing=True):
        clf = make_classifier().set_fit_request(sample_weight=True)
        clf.set_score_request(sample_weight=False)
        result = cross_validate(
            clf, texts, labels, cv=[(train, test)], return_estimator=True, error_score="raise",
            params={"sample_weight": weights},
        )  # fmt: skip
        pipe = Pipeline([("same", FunctionTransformer()), ("clf", clone(clf))])
        pipe.fit(texts[:16], labels[:16], sample_weight=weights[:16])
    expected = make_classifier().fit(texts[:16], labels[:16], sample_weight=weights[:16])
    assert_same_state(result["estimator"][0], expected)
    assert_same_state(pipe[-1], expected)
    plain = make_classifier().fit(texts[:16], labels[:16])
    assert (plain.decision_function(texts) != expected.decision_function(texts)).any()


# ---------------------------------------------------------------- nothing is left behind


def test_global_state_is_left_as_found(tiny_folder, reviews):
    Backbone(tiny_folder).release()
    levels = transformers.utils.logging
    found_level, found_bars = levels.get_verbosity(), levels.is_progress_bar_enabled()
    levels.set_verbosity_info()
    levels.enable_progress_bar()
    torch.manual_seed(7)
    np.random.seed(7)

    def state():
        return {
            "torch": torch.get_rng_state().tolist(),
            "numpy": [str(part) for part in np.random.get_state()],
            "random": random.getstate(),
            "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
            "level": levels.get_verbosity(),
            "bars": levels.is_progress_bar_enabled(),
            "warnings": list(warnings.filters),
            "environment": dict(os.environ),
            "grad": torch.is_grad_enabled(),
            "dtype": torch.get_default_dtype(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
        }

    try:
        before = state()
        clf = LoPAClassifier(
            tiny_folder, prompt_length=3, rank=2, bottleneck=8, max_iter=2, random_state=0,
            early_stopping=True, train_encoder=True,
        ).fit(*reviews)  # fmt: skip
        clf.predict(reviews[0])
        after = state()
    finally:
        levels.set_verbosity(found_level)
        (levels.enable_progress_bar if found_bars else levels.disable_progress_bar)()
        Backbone(tiny_folder).release()
    for name, value in before.items():
        assert after[name] == value, name


def test_loading_a_checkpoint_that_lacks_weights_leaves_the_global_seed(tmp_path):
    model, tokenizer = tiny.model("bert")
    model.save_pretrained(tmp_path)  # a masked language model has no pooler
    tokenizer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["architectures"] = ["BertModel"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    torch.manual_seed(7)
    before = torch.get_rng_state()
    load(Backbone(tmp_path))
    assert torch.equal(torch.get_rng_state(), before)


_QUIET_FIT = """
import json, socket, sys

def refuse(self, address):
    raise AssertionError(f"a connection to {address} was asked for")

socket.socket.connect = socket.socket.connect_ex = refuse
from sklopa import LoPAClassifier

texts, labels = json.loads(sys.argv[2])
clf = LoPAClassifier(sys.argv[1], prompt_length=3, rank=2, bottleneck=8, max_iter=1)
print(clf.fit(texts, labels).score(texts, labels))
"""


def test_fit_writes_no_file_and_asks_for_no_connection(tiny_folder, reviews, tmp_path):
    places = {name: tmp_path / name for name in ("cwd", "home", "tmp")}
    for place in places.values():
        place.mkdir()
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HF_", "XDG_", "TRANSFORMERS_", "TORCH"))
    }
    environment |= {
        "HOME": str(places["home"]), "USERPROFILE": str(places["home"]),
        "TMPDIR": str(places["tmp"]), "TEMP": str(places["tmp"]),
        "PYTHONPATH": str(Path(sklopa.__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    found = {path: path.stat().st_mtime_ns for path in Path(tiny_folder).rglob("*")}
    done = subprocess.run(
        [sys.executable, "-c", _QUIET_FIT, tiny_folder, json.dumps(reviews)],
        cwd=places["cwd"], env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # torch leaves an empty folder of its own in TMPDIR when it makes an optimizer.
    assert not [path for place in places.values() for path in place.rglob("*") if path.is_file()]
    assert not [path for place in ("cwd", "home") for path in places[place].rglob("*")]
    assert {path: path.stat().st_mtime_ns for path in Path(tiny_folder).rglob("*")} == found
