"""What X may be, and texts that are odd: lists of strings everywhere, frames, pairs."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import tiny
from helpers import CLOSE, assert_same_state

from sklopa.errors import SklopaError, TruncationWarning

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
