"""Rows of the table of errors about X and y: the class, and a text that says what to do."""

import datetime
import enum
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
from helpers import raises

from sklopa.errors import TruncationWarning

TEXTS = ["good film", "bad film", "fine film"]
LABELS = ["a", "b", "a"]

# ---------------------------------------------------------------- X

BAD_TEXTS = {
    "bare_string": ("good film", TypeError, ["single text", "'good film'", "[text]"]),
    "bytes": (b"good film", TypeError, ["bytes"]),
    "dict": ({"a": "good"}, TypeError, ["dict"]),
    "set": ({"good", "bad"}, TypeError, ["set"]),
    "generator": ((text for text in LABELS), TypeError, ["generator"]),
    "number": (3, TypeError, ["int"]),
    "none": (None, TypeError, ["NoneType"]),
    "scalar_array": (np.array("good"), TypeError, ["no dimension"]),
    "numbers_2d": (np.zeros((3, 2)), TypeError, ["float64", "(3, 2)"]),
    "numbers_1d": (np.arange(3), TypeError, ["int64", "(3,)"]),
    "array_3d": (np.full((3, 1, 1), "good"), TypeError, ["(3, 1, 1)"]),
    "sparse": (scipy.sparse.eye(3, format="csr"), TypeError, ["sparse"]),
    "number_frame": (pd.DataFrame({"n": [1.0, 2.0, 3.0]}), TypeError, ["row 0", "1.0", "float"]),
    "number_list": (["good", "bad", 7], TypeError, ["row 2", "7", "int"]),
    "number_rows": ([[1, 2], [3, 4], [5, 6]], TypeError, ["row 0", "1", "int"]),
    "bytes_row": (["good", b"bad", "fine"], TypeError, ["row 1", "b'bad'", "bytes"]),
    "bytes_array": (np.array([b"good", b"bad", b"a"]), TypeError, ["row 0", "bytes"]),
    "tuple_row": (["good", ("a", "b"), "fine"], TypeError, ["row 1", "tuple"]),
    "none_row": (["good", "bad", None], ValueError, ["row 2", "None", "nulls='empty'"]),
    "nan_row": (["good", float("nan"), "bad"], ValueError, ["row 1", "nan", "nulls='empty'"]),
    "pandas_na_row": (pd.Series(["a", None, "b"], dtype="string"), ValueError, ["row 1"]),
    "pandas_str_na": (pd.Series(["a", None, "b"], dtype="str"), ValueError, ["row 1"]),
    "polars_null": (pl.Series(["a", None, "b"]), ValueError, ["row 1", "None"]),
    "pair_null": ([("a", "b"), ("a", None), ("a", "c")], ValueError, ["row 1", "None"]),
    "three_columns": ([("a", "b", "c")] * 3, ValueError, ["3 columns"]),
    "three_column_frame": (pd.DataFrame(columns=["a", "b", "c"]), ValueError, ["3 columns"]),
    "ragged": ([("a", "b"), ("a",), ("a", "b")], ValueError, ["some rows have one text"]),
    "lone_surrogate": (["good", "ba\ud800d", "a"], ValueError, ["row 1", "position 2", "Unicode"]),
    "empty_list": ([], ValueError, ["0 sample(s)", "empty"]),
    "empty_object_array": (np.array([], dtype=object), ValueError, ["0 sample(s)", "empty"]),
    "empty_array": (np.array([]), ValueError, ["0 sample(s)", "empty"]),
    "empty_series": (pd.Series([], dtype=object), ValueError, ["0 sample(s)", "empty"]),
    "empty_frame": (pl.DataFrame({"a": []}, schema={"a": pl.String}), ValueError, ["0 sample(s)"]),
}


@pytest.mark.parametrize("case", BAD_TEXTS)
def test_fit_refuses_what_is_no_column_of_texts(make_classifier, case):
    X, builtin, parts = BAD_TEXTS[case]
    with raises(builtin, "X", *parts):
        make_classifier().fit(X, LABELS)


@pytest.mark.parametrize("case", [name for name in BAD_TEXTS if name != "generator"])
@pytest.mark.parametrize("method", ["predict", "transform"])
def test_predict_refuses_what_is_no_column_of_texts(fitted, case, method):
    X, builtin, parts = BAD_TEXTS[case]
    with raises(builtin, "X", *parts):
        getattr(fitted, method)(X)


def test_predict_refuses_another_number_of_columns_than_fit_saw(fitted, make_classifier):
    with raises(ValueError, "X has 2 features", "LoPAClassifier is expecting 1"):
        fitted.predict([("a", "b")])
    pairs = make_classifier(max_iter=1).fit([("a", "b"), ("a", "a")], [0, 1])
    with raises(ValueError, "X has 1 features", "LoPAClassifier is expecting 2"):
        pairs.predict(["a"])


# ---------------------------------------------------------------- y, weights, validation rows

MIXED = np.array(["a", 1, "b"], dtype=object)
BAD_TARGETS = {
    "none": (None, ["y", "None"]),
    "too_short": (LABELS[:2], ["X has 3 rows", "y has 2"]),
    "too_long": (np.array([*LABELS, "b"]), ["X has 3 rows", "y has 4"]),
    "short_matrix": (np.eye(2, dtype=int), ["X has 3 rows", "y has 2"]),
    "short_sparse": (scipy.sparse.eye(2, format="csr"), ["X has 3 rows", "y has 2"]),
    "short_polars": (pl.Series(LABELS[:2]), ["X has 3 rows", "y has 2"]),
    "one_class": (["a"] * 3, ["LoPAClassifier", "2 classes", "'a'"]),
    "one_number": (np.zeros(3, dtype=int), ["LoPAClassifier", "2 classes", "0"]),
    "nan": ([0.0, float("nan"), 1.0], ["y", "NaN", "row 1"]),
    "infinity": ([0.0, 1.0, np.inf], ["y", "infinity", "row 2"]),
    "none_label": (["a", "b", None], ["y", "NaN", "row 2", "None"]),
    "nan_label": (np.array(["a", np.nan, "b"], dtype=object), ["y", "NaN", "row 1"]),
    "pandas_na": (pd.Series(["a", "b", None], dtype="string"), ["y", "NaN", "row 2"]),
    "pandas_integer_na": (pd.Series([0, 1, None], dtype="Int64"), ["y", "NaN", "row 2"]),
    "continuous": ([0.5, 1.25, 2.0], ["Unknown label type"]),
    "mixed": (MIXED, ["y", "int", "str"]),
    "mixed_list": (["a", 1, "b"], ["y", "int", "str", "row 0 is 'a'", "row 1 is 1"]),
    "mixed_series": (pd.Series(["a", 1, "b"], dtype=object), ["y", "int", "str"]),
    "mixed_sets": ([{"a"}, {1}, {"b"}], ["y", "int", "str"]),
    "masked": (np.ma.array(["??", "b", "a"], mask=[1, 0, 0]), ["y", "NaN", "row 0"]),
    "enum": (list(enum.Enum("Mood", "GOOD BAD FINE")), ["y", "row 0", "Mood", "label.value"]),
    "dates": ([datetime.date(2024, 1, i) for i in (1, 2, 3)], ["y", "date", "str(label)"]),
    "bytes": ([b"a", b"b", b"a"], ["y", "row 0", "b'a'", "label.decode()"]),
    "none_in_a_set": ([{"a"}, {"b", None}, {"a"}], ["y", "NaN", "row 1", "None"]),
    "none_for_a_set": ([{"a"}, None, {"b"}], ["y", "NaN", "row 1"]),
    "no_labels_at_all": ([set(), set(), set()], ["y", "no label"]),
    "generators": ([(c for c in "ab")] * 3, ["y", "row 0", "generator", "sets"]),
    "minus_one_indicator": (np.array([[1, -1], [-1, 1], [1, 1]]), ["y", "indicator", "-1"]),
    "two_indicator": (np.array([[1, 2], [2, 1], [1, 1]]), ["y", "indicator", "row 0 has 2"]),
    "sparse_two": (scipy.sparse.csr_matrix([[0, 2], [2, 0], [0, 0]]), ["y", "indicator", "2"]),
    "same_names": (pd.DataFrame(np.eye(3, 2, dtype=int), columns=["a", "a"]), ["y.columns"]),
    "no_indicator": (np.array([[0, 1], [2, 3], [4, 5]]), ["y", "2 columns", "indicator"]),
    "nan_indicator": (np.array([[0, 1], [1, np.nan], [1, 1]]), ["y", "NaN"]),
    "words_matrix": (np.array([["a", "b"], ["c", "d"], ["e", "f"]]), ["y"]),
    "three_dimensions": (np.zeros((3, 2, 2), dtype=int), ["y"]),
}


@pytest.mark.parametrize("case", BAD_TARGETS)
def test_fit_refuses_targets_that_are_no_labels(make_classifier, case):
    y, parts = BAD_TARGETS[case]
    with raises(ValueError, *parts):
        make_classifier().fit(TEXTS, y)


@pytest.mark.parametrize("y", [3, "abc", iter(LABELS)], ids=["number", "string", "iterator"])
def test_targets_that_are_no_collection_are_refused(make_classifier, y):
    with raises((TypeError, ValueError), "y"):
        make_classifier().fit(TEXTS, y)


BAD_WEIGHTS = {
    "too_short": ([1.0, 1.0], ["X has 3 rows", "sample_weight has 2"]),
    "negative": ([1.0, -1.0, 1.0], ["sample_weight", "negative", "row 1", "-1"]),
    "nan": ([1.0, 1.0, np.nan], ["sample_weight", "NaN"]),
    "words": (["a", "b", "c"], ["sample_weight"]),
    "one_word": ("heavy", ["sample_weight"]),
    "matrix": (np.ones((3, 2)), ["1D"]),
    "all_zero": ([0.0, 0.0, 0.0], ["sample_weight", "zero"]),
    "all_false": ([False, False, False], ["sample_weight", "zero"]),
    "masked": (np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0]), ["sample_weight", "row 1"]),
    "tiny": ([1.0, 1e-300, 1.0], ["sample_weight", "row 1", "1e-300", "1e-12"]),
    "all_tiny": ([1e-300] * 3, ["sample_weight", "1e-300"]),
    "huge": ([1.0, 1e300, 1.0], ["sample_weight", "row 1", "1e+300", "1e+12"]),
    "all_huge": ([1e300] * 3, ["sample_weight", "1e+300"]),
    "infinite": ([1.0, np.inf, 1.0], ["sample_weight", "inf"]),
    "numbers_as_words": (["1", "2", "3"], ["sample_weight", "'1'"]),
    "durations": (np.array([1, 2, 3], dtype="m8[s]"), ["sample_weight", "timedelta64"]),
    "one_class_left": ([1.0, 0.0, 1.0], ["2 classes", "'a'"]),
}


@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_fit_refuses_sample_weights_that_weigh_nothing(make_classifier, case):
    weights, parts = BAD_WEIGHTS[case]
    with raises(ValueError, *parts):
        make_classifier().fit(TEXTS, LABELS, sample_weight=weights)


@pytest.mark.parametrize(
    ("X_val", "y_val", "parts"),
    [
        (TEXTS, ["a", "b", "c"], ["y_val", "'c'", "['a', 'b']"]),
        (TEXTS, ["a", "b"], ["X has 3 rows", "y_val has 2"]),
        (TEXTS, None, ["y_val"]),
        (None, LABELS, ["X_val", "y_val"]),
        (["good", None], ["a", "b"], ["row 1"]),
        ([("a", "b")], ["a"], ["2 features", "expecting 1"]),
        ([], [], ["empty"]),
    ],
    ids=["unseen", "lengths", "no_y", "no_X", "null", "pairs", "empty"],
)
def test_fit_refuses_validation_rows_that_do_not_fit_the_training_rows(
    make_classifier, X_val, y_val, parts
):
    with raises(ValueError, *parts):
        make_classifier().fit(TEXTS, LABELS, X_val=X_val, y_val=y_val)


@pytest.mark.parametrize("first_call", [True, False])
def test_partial_fit_refuses_unseen_labels(make_classifier, first_call):
    clf = make_classifier()
    if not first_call:
        clf.partial_fit(TEXTS, LABELS, classes=["a", "b"])
    with raises(ValueError, "y", "'zebra'", "['a', 'b']"):
        clf.partial_fit(TEXTS, ["a", "b", "zebra"], classes=["a", "b"] if first_call else None)


def test_partial_fit_refuses_other_classes_than_at_first(make_classifier):
    clf = make_classifier().partial_fit(TEXTS, LABELS, classes=["a", "b"])
    with raises(ValueError, "classes"):
        clf.partial_fit(TEXTS, LABELS, classes=["a", "b", "c"])


@pytest.mark.parametrize("sets_first", [True, False])
def test_one_label_and_several_labels_a_row_do_not_mix(make_classifier, sets_first):
    sets = [{"a"}, {"b"}, {"a", "b"}]
    clf = make_classifier(max_iter=1).fit(TEXTS, sets if sets_first else LABELS)
    with raises(ValueError, "y", "several labels", "one label"):
        clf.partial_fit(TEXTS, LABELS if sets_first else sets)
    with raises(ValueError, "y_val", "several labels", "one label"):
        clf.fit(
            TEXTS, sets if sets_first else LABELS,
            X_val=TEXTS, y_val=LABELS if sets_first else sets,
        )  # fmt: skip


def test_partial_fit_asks_for_the_classes_at_first(make_classifier):
    with raises(ValueError, "classes", "partial_fit"):
        make_classifier().partial_fit(TEXTS, LABELS)


@pytest.mark.parametrize(
    "class_weight",
    [
        {"a": -1.0, "b": 1.0}, {"a": "x", "b": 1.0}, {"a": 0, "b": 0}, {"a": np.nan, "b": 1},
        {"a": np.inf, "b": 1}, {"a": 1e300, "b": 1}, {"a": 1e-300, "b": 1}, {"a": None, "b": 1},
        {"a": 1, "zebra": 1},
    ],
    ids=str,
)  # fmt: skip
def test_class_weights_that_are_no_weights_are_refused(make_classifier, class_weight):
    with raises(ValueError, "class_weight"):
        make_classifier(class_weight=class_weight).fit(TEXTS, LABELS)


def test_class_weight_is_refused_where_rows_have_several_labels(make_classifier):
    with raises(ValueError, "class_weight"):
        make_classifier(class_weight="balanced").fit(TEXTS, [{"a"}, {"b"}, {"a", "b"}])


def test_early_stopping_refuses_rows_too_few_to_hold_out_any(make_classifier):
    with raises(ValueError, "early_stopping", "hold out 0.999 of 3 rows", "X_val"):
        make_classifier(early_stopping=True, validation_fraction=0.999).fit(TEXTS, LABELS)


# ---------------------------------------------------------------- allowed, with or without a word


def test_an_empty_text_is_allowed_without_a_warning(make_classifier):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf = make_classifier(max_iter=1).fit(["good", "", "bad"], LABELS)
        assert clf.predict([""]).shape == (1,)


def test_a_text_over_max_length_is_cut_counted_and_reported_once(make_classifier):
    long = "good " * 30
    with pytest.warns(
        TruncationWarning, match="1 of 3 texts are longer than the limit of 8 tokens"
    ) as caught:
        clf = make_classifier(max_iter=1, max_length=8).fit(["good", long, "bad"], LABELS)
    assert len(caught) == 1
    assert clf.n_truncated_ == 1
