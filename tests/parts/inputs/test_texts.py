"""What X may be, and texts that are odd: lists of strings everywhere, frames, pairs."""

import copy
import enum
import warnings

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import tiny
from helpers import CLOSE, assert_same_state, named, raises
from sklearn.compose import ColumnTransformer

from sklopa._inputs.texts import check_target_texts, check_texts
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
    "string_dtype_array": lambda texts: np.array(texts, dtype=np.dtypes.StringDType()),
    "pandas_nullable_series": lambda texts: pd.Series(texts, dtype="string[python]"),
    "pandas_pyarrow_series": lambda texts: pd.Series(texts, dtype="string[pyarrow]"),
    "pandas_arrow_series": lambda texts: pd.Series(texts, dtype=pd.ArrowDtype(pa.string())),
    "pandas_arrow_frame": lambda texts: pd.DataFrame({"review": pa.array(texts)}),
    "pandas_categorical": lambda texts: pd.Series(texts, dtype="category"),
    "pandas_index": pd.Index,
    "pandas_frame": lambda texts: pd.DataFrame({"review": texts}),
    "polars_series": pl.Series,
    "polars_frame": lambda texts: pl.DataFrame({"review": texts}),
    "polars_categorical": lambda texts: pl.Series(texts, dtype=pl.Categorical),
    "arrow_array": pa.array,
    "arrow_chunked_array": lambda texts: pa.chunked_array([texts[:5], texts[5:]]),
    "arrow_table": lambda texts: pa.table({"review": texts}),
    "datasets_column": lambda texts: datasets.Dataset.from_dict({"review": texts})["review"],
    "datasets_dataset": lambda texts: datasets.Dataset.from_dict({"review": texts}),
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
    "arrow_table": lambda rows: pa.table(dict(zip("ab", zip(*rows, strict=True), strict=True))),
    "datasets_dataset": lambda rows: datasets.Dataset.from_pandas(pd.DataFrame(rows)),
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


MISSING = {
    "list": [None, "red", float("nan"), "blue", pd.NA],
    "object_array": np.array([None, "red", np.nan, "blue", None], dtype=object),
    "masked_array": np.ma.array(["", "red", "", "blue", ""], mask=[1, 0, 1, 0, 1]),
    "string_dtype_array": np.array(
        [None, "red", None, "blue", None], dtype=np.dtypes.StringDType(na_object=None)
    ),
    "pandas_series": pd.Series([None, "red", np.nan, "blue", pd.NaT], dtype=object),
    "pandas_str_series": pd.Series([None, "red", None, "blue", None], dtype="str"),
    "pandas_nullable_series": pd.Series([None, "red", pd.NA, "blue", None], dtype="string"),
    "pandas_arrow_series": pd.Series(
        [None, "red", None, "blue", None], dtype=pd.ArrowDtype(pa.string())
    ),
    "polars_series": pl.Series([None, "red", None, "blue", None]),
    "arrow_array": pa.array([None, "red", None, "blue", None]),
    "datasets_column": datasets.Dataset.from_dict({"x": [None, "red", None, "blue", None]})["x"],
}


@pytest.mark.parametrize("container", MISSING)
def test_missing_texts_are_refused_by_row_or_read_as_empty_ones_on_request(fitted3, container):
    clf = copy.copy(fitted3).set_params(nulls="error")
    with raises(ValueError, "3 missing texts", "in rows 0, 2, 4.", "nulls='empty'"):
        clf.predict(MISSING[container])
    logits = clf.set_params(nulls="empty").decision_function(MISSING[container])
    np.testing.assert_array_equal(logits, fitted3.decision_function(["", "red", "", "blue", ""]))


def test_many_missing_texts_are_counted_and_the_first_rows_named(make_classifier):
    with raises(ValueError, "9 missing texts (such as None) in rows 1, 2, 3, 4, 5 and more."):
        make_classifier().fit(["red"] + [None] * 9, range(10))


def test_a_missing_text_in_either_column_of_a_pair_is_found(make_classifier, pairs):
    rows, labels = pairs
    frame = pl.DataFrame([*rows[:-1], ("good", None)], schema=["a", "b"], orient="row")
    with raises(ValueError, "a missing text (None) in row 15."):
        make_classifier().fit(frame, labels)
    clf = make_classifier(max_iter=1, nulls="empty").fit(frame, labels)
    expected = make_classifier(max_iter=1).fit([*rows[:-1], ("good", "")], labels)
    assert_same_state(clf, expected)


@pytest.mark.parametrize(
    ("X", "rows"),
    [
        (np.ma.array(["a", "b"], mask=[0, 0]), ["a", "b"]),
        ({"x": "a", "y": "b"}.values(), ["a", "b"]),
        (pl.Series([["a", "b"], ["c", "d"]]), [("a", "b"), ("c", "d")]),
        (pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["x", "x"]), [("a", "b")]),
        (pa.record_batch({"x": ["a", "b"]}), ["a", "b"]),
        (pd.MultiIndex.from_tuples([("a", "b")]), [("a", "b")]),
        ([enum.Enum("Word", {"A": "a"}, type=str).A], ["a"]),
        (["a\0", "\0"], ["a\0", "\0"]),
    ],
    ids=named,
)
def test_texts_are_read_from_what_else_holds_them(X, rows):
    assert check_texts(X).rows == rows


MASKED = {
    "texts": np.ma.array(["?", "b"], mask=[1, 0]),
    "objects": np.ma.array(["?", "b"], mask=[1, 0], dtype=object),
    "string_dtype": np.ma.array(["?", "b"], mask=[1, 0]).astype(np.dtypes.StringDType()),
    "constant": [np.ma.masked, "b"],
    "pairs": np.ma.array([["?", "a"], ["b", "c"]], mask=[[1, 0], [0, 0]]),
    "pair": [(np.ma.masked, "a"), ("b", "c")],
}


@pytest.mark.parametrize("case", MASKED)
def test_a_masked_text_is_a_missing_one(case):
    with raises(ValueError, "X has a missing text", "row 0", "nulls='empty'"):
        check_texts(MASKED[case])
    first = check_texts(MASKED[case], nulls="empty").rows[0]
    assert first == (("", "a") if case.startswith("pair") else "")


class _Sized:
    def __len__(self):
        return 2


@pytest.mark.parametrize(
    "X", [frozenset("ab"), {"a": 1}.keys(), _Sized(), memoryview(b"ab"), pd.DataFrame(index=[0])]
)
def test_what_has_no_rows_of_texts_is_refused(X):
    for check in (check_texts, check_target_texts):
        with raises((TypeError, ValueError), "must be a list"):
            check(X)


@pytest.mark.parametrize(
    ("y", "builtin", "parts"),
    [
        (["good", "ba\ud800d"], ValueError, ["row 1", "lone surrogate", "position 2", "Unicode"]),
        (["\udfff"], ValueError, ["row 0", "lone surrogate", "position 0"]),
        (np.ma.array(["?", "b"], mask=[1, 0]), TypeError, ["row 0", "missing"]),
        (["a", None], TypeError, ["row 1", "missing", "None"]),
        (["a", float("nan")], TypeError, ["row 1", "missing", "nan"]),
        (pd.Series(["a", None], dtype="string"), TypeError, ["row 1", "missing"]),
        (pa.array(["a", None]), TypeError, ["row 1", "missing"]),
        (["a", b"b"], TypeError, ["row 1", "b'b'", "bytes"]),
        (["a", 3], TypeError, ["row 1", "3", "int"]),
        (["a", ["b"]], TypeError, ["row 1", "list"]),
        ("good film", TypeError, ["str", "'good film'"]),
        ({"a", "b"}, TypeError, ["set"]),
        (pd.DataFrame({"y": ["a"]}), TypeError, ["DataFrame"]),
    ],
    ids=named,
)
def test_a_target_that_is_no_text_is_refused_by_name_and_row(y, builtin, parts):
    with raises(builtin, "y_val", *parts):
        check_target_texts(y, "y_val")


def test_target_texts_come_back_as_plain_texts():
    for y in (["a", ""], np.array(["a", ""]), pa.array(["a", ""]), pl.Series(["a", ""])):
        texts = check_target_texts(y)
        assert texts == ["a", ""]
        assert {type(text) for text in texts} == {str}


def test_a_lazy_frame_is_refused_without_being_computed():
    with warnings.catch_warnings(), raises(TypeError, "LazyFrame"):
        warnings.simplefilter("error")
        check_texts(pl.LazyFrame({"review": ["good"]}))


def test_one_column_of_a_table_in_a_pipeline_of_columns(make_classifier, colours):
    texts, labels = colours
    frame = pl.DataFrame({"text": texts, "n": [len(text) for text in texts]})
    columns = ColumnTransformer(
        [("text", make_classifier(max_iter=1), "text"), ("n", "passthrough", ["n"])]
    ).set_output(transform="polars")
    features = columns.fit_transform(frame, labels)
    assert isinstance(features, pl.DataFrame)
    assert features.columns == [*(f"text__lopaclassifier{i}" for i in range(tiny.WIDTH)), "n__n"]
    expected = make_classifier(max_iter=1).fit_transform(texts, labels)
    np.testing.assert_allclose(features.to_numpy()[:, :-1], expected, **CLOSE)


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
