"""y and weights before any network: what labels, numbers and weights may be, kind by kind."""

import datetime
import enum
import time
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
import torch
from helpers import named, raises

from sklopa._inputs.columns import to_list
from sklopa._inputs.labels import check_classes, encode_labels
from sklopa._inputs.numeric import check_numbers, restore, standardise
from sklopa._inputs.weights import apply_class_weight, check_weights


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Word(str, enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 7


def objects(*items):
    return np.fromiter(items, dtype=object, count=len(items))


DATES = [datetime.date(2024, 1, 2), datetime.date(2024, 3, 4)]
STAMPS = pd.Series(pd.to_datetime(DATES))

# ---------------------------------------------------------------- what a label is

MIXED = {
    "list": ["a", 1, "b"],
    "tuple": ("a", 1, "b"),
    "array": objects("a", 1, "b"),
    "series": pd.Series(["a", 1, "b"], dtype=object),
    "polars": pl.Series(["a", 1, "b"], dtype=pl.Object),
    "generated": {"a": "a", "b": 1, "c": "b"}.values(),
    "sets": [{"a"}, {1}, {"b"}],
    "one_set": [{"a", 1}, {"b"}, {"b"}],
    "column_frame": pd.DataFrame({"y": objects("a", 1, "b")}),
}


@pytest.mark.filterwarnings("ignore:A column-vector y")
@pytest.mark.parametrize("case", MIXED)
def test_labels_of_two_kinds_are_refused_in_every_container(case):
    with raises(ValueError, "y mixes labels of types int, str", "'a'", "all of them texts"):
        encode_labels(MIXED[case])


@pytest.mark.parametrize(
    "classes", [["a", 1], {"a", 1}, objects("a", 1), pd.Index(["a", 1]), {"a": 0, 1: 1}.keys()]
)
def test_classes_of_two_kinds_are_refused(classes):
    with raises(ValueError, "classes mixes labels of types int, str"):
        check_classes(classes)


@pytest.mark.parametrize("labels", [[True, 0, 1], [True, 2.0], ["1", 1.0], [b"a", "a"]], ids=str)
def test_truth_values_numbers_texts_and_bytes_are_different_kinds(labels):
    with raises(ValueError, "y "):
        encode_labels(labels)


NO_LABELS = {
    "enum": ([Mood.GOOD, Mood.BAD], ["row 0", "Mood", "label.value"]),
    "date": (DATES, ["row 0", "date", "str(label)"]),
    "time": ([datetime.time(1), datetime.time(2)], ["time", "str(label)"]),
    "timedelta": ([datetime.timedelta(1)] * 2, ["timedelta", "str(label)"]),
    "zoned": (STAMPS.dt.tz_localize("UTC"), ["Timestamp", "str(label)"]),
    "periods": (STAMPS.dt.to_period("D"), ["Period", "str(label)"]),
    "arrow_dates": (pa.array(DATES), ["date", "str(label)"]),
    "intervals": (pd.Series(pd.interval_range(0, 2)), ["Interval", "str(label)"]),
    "bytes": ([b"a", b"b"], ["row 0", "b'a'", "bytes", "label.decode()"]),
    "bytes_array": (np.array([b"a", b"b"]), ["b'a'", "label.decode()"]),
    "decimal": ([Decimal(1), Decimal(2)], ["Decimal", "str(label)"]),
    "complex": ([1j, 2j], ["1j", "complex"]),
    "complex_array": (np.array([1j, 2j]), ["1j", "complex"]),
    "records": (np.array([(1, 2), (3, 4)], dtype="i,i"), ["(1, 2)", "void"]),
    "objects": ([object(), object()], ["type object", "str(label)"]),
    "dicts": ([{"a": 1}, {"b": 1}], ["dict", "as sets"]),
    "generators": ([(c for c in "ab"), (c for c in "a")], ["row 0", "generator", "as sets"]),
    "nested": ([[["a"]], [["b"]]], ["list", "as sets"]),
    "tuple_in_a_set": ([{("a", "b")}, {("a",)}], ["('a', 'b')", "tuple", "str(label)"]),
    "enum_in_a_set": ([{Mood.GOOD}, {Mood.BAD}], ["Mood", "label.value"]),
    "huge": ([1, 2**70], ["row 1", str(2**70), "64 bits", "str(label)"]),
    "huge_and_negative": ([-1, 2**63], [str(2**63), "64 bits"]),
    "rounded": ([2**53 + 1, 1.0], [str(2**53 + 1), "64 bits"]),
    "half": ([1.0, 2.5, 1.0], ["row 1", "2.5", "Unknown label type: continuous", "regressor"]),
    "large_float": ([0.0, 1e300], ["row 1", "1e+300", "continuous"]),
    "infinite": ([0.0, -np.inf], ["row 1", "-inf", "infinity"]),
}


@pytest.mark.parametrize("case", NO_LABELS)
def test_what_is_no_label_is_refused_by_row_and_type_with_a_way_out(case):
    y, parts = NO_LABELS[case]
    with raises(ValueError, "y", *parts):
        encode_labels(y)
    if not isinstance(y, list) or not isinstance(y[0], (set, list)):
        with raises(ValueError, "classes", *[part.replace("row", "entry") for part in parts]):
            check_classes(y)


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (objects(7, -2, 7), [-2, 7]),
        (objects(True, False, True), [False, True]),
        (objects(1.0, 0.0, 1.0), [0.0, 1.0]),
        (objects(np.int8(7), -2, np.int64(7)), [-2, 7]),
        (objects(np.bool_(True), False), [False, True]),
        (objects(1, 2.0, 1), [1.0, 2.0]),
        ([2**63, 1], [1, 2**63]),
        ([Word.GOOD, Word.BAD, "good"], ["bad", "good"]),
        ([Level.HIGH, Level.LOW, 7], [1, 7]),
        (["a", "a\0", "a"], ["a", "a\0"]),
        (torch.tensor([3, 1, 3]), [1, 3]),
        (torch.tensor([1.0, 0.0], requires_grad=True), [0.0, 1.0]),
        (torch.tensor([1.0, 0.0], dtype=torch.bfloat16), [0.0, 1.0]),
        ([torch.tensor(3), torch.tensor(1)], [1, 3]),
        (np.array([3, 1], dtype=np.longdouble), [1.0, 3.0]),
        (pd.Series([3, 1], dtype="Int64"), [1, 3]),
        (pd.Series([True, False], dtype="boolean"), [False, True]),
        (pa.array(["b", "a"]).dictionary_encode(), ["a", "b"]),
        (range(2, 4), [2, 3]),
    ],
    ids=named,
)
def test_texts_truth_values_and_whole_numbers_are_labels_however_they_are_held(y, classes):
    labels = encode_labels(y)
    assert labels.classes.tolist() == classes
    assert [type(label) for label in labels.classes.tolist()] == [type(c) for c in classes]
    plain = y.tolist() if hasattr(y, "tolist") else [getattr(v, "item", lambda v=v: v)() for v in y]
    assert labels.classes[labels.codes].tolist() == plain
    assert check_classes(y).tolist() == classes


def test_ten_thousand_classes_are_encoded_in_a_fifth_of_a_second():
    y = [f"class {i}" for i in range(10_000)] * 2
    classes = encode_labels(y).classes
    seconds = []
    for _ in range(3):
        started = time.process_time()
        labels = encode_labels(y, classes)
        seconds.append(time.process_time() - started)
    assert min(seconds) < 0.2
    assert classes[labels.codes].tolist() == y


@pytest.mark.parametrize(
    "y",
    [3, "ab", b"ab", None, {"a", "b"}, {"a": 1, "b": 2}, iter("ab"), np.array("a"), object()],
    ids=lambda y: type(y).__name__,
)
def test_what_has_no_rows_or_no_order_is_no_target(y):
    with raises((TypeError, ValueError), "y"):
        encode_labels(y)
    with raises((TypeError, ValueError), "y"):
        check_numbers(y, np.ones(2))


# ---------------------------------------------------------------- missing is missing

A_MASK = [True, False, False]
MISSING = {
    "masked_texts": np.ma.array(["??", "a", "b"], mask=A_MASK),
    "masked_numbers": np.ma.array([9, 1, 0], mask=A_MASK),
    "masked_truth_values": np.ma.array([True, True, False], mask=A_MASK),
    "masked_objects": np.ma.array(objects("??", "a", "b"), mask=A_MASK),
    "masked_constant": [np.ma.masked, 1, 0],
    "none": [None, "a", "b"],
    "nan": [float("nan"), 1, 0],
    "nan_among_texts": [float("nan"), "a", "b"],
    "numpy_nan": [np.float32("nan"), 1, 0],
    "decimal_nan": [Decimal("NaN"), 1, 0],
    "signalling_nan": [Decimal("sNaN"), 1, 0],
    "nat": [pd.NaT, "a", "b"],
    "numpy_nat": [np.datetime64("NaT"), 1, 0],
    "na": [pd.NA, 1, 0],
    "nullable": pd.Series([None, 1, 0], dtype="Int64"),
    "nullable_boolean": pd.Series([None, True, False], dtype="boolean"),
    "categorical": pd.Series([None, "a", "b"], dtype="category"),
    "polars": pl.Series([None, "a", "b"]),
    "polars_numbers": pl.Series([None, 1, 0]),
    "arrow": pa.array([None, "a", "b"]),
    "arrow_numbers": pa.array([None, 1, 0]),
    "pandas_arrow": pd.Series([None, 1, 0], dtype=pd.ArrowDtype(pa.int64())),
    "string_dtype": np.array([None, "a", "b"], dtype=np.dtypes.StringDType(na_object=None)),
}


@pytest.mark.parametrize("case", MISSING)
def test_a_missing_or_masked_value_is_refused_by_row_wherever_it_stands(case):
    for check, name, place in (
        (encode_labels, "y", "row 0"),
        (check_classes, "classes", "entry 0"),
        (lambda y: check_numbers(y, np.ones(3)), "y", "row 0"),
        (lambda y: check_weights(y, 3), "sample_weight", "row 0"),
        (
            lambda y: encode_labels([[value] * n for n, value in enumerate(to_list(y), 1)]),
            "y",
            "row 0",
        ),
    ):
        with raises(ValueError, f"{name} contains NaN", place):
            check(MISSING[case])


def test_a_mask_that_hides_nothing_changes_nothing():
    mask = [False, False]
    assert encode_labels(np.ma.array(["b", "a"], mask=mask)).classes.tolist() == ["a", "b"]
    assert check_weights(np.ma.array([2, 3], mask=mask), 2).tolist() == [2, 3]
    assert check_numbers(np.ma.array([2, 3]), np.ones(2)).values[:, 0].tolist() == [2, 3]


# ---------------------------------------------------------------- several labels a row

BAD_SETS = {
    "none_in_a_set": ([{"a"}, {"b", None}], ["contains NaN", "row 1", "None"]),
    "nan_in_a_set": ([{"a"}, {"b", float("nan")}], ["contains NaN", "row 1", "nan"]),
    "none_for_a_set": ([{"a"}, None], ["contains NaN", "row 1"]),
    "masked_in_a_list": ([["a"], [np.ma.masked]], ["contains NaN", "row 1"]),
    "all_empty": ([set(), set()], ["no label in any row"]),
    "all_empty_lists": ([[], []], ["no label in any row"]),
    "a_text_among_sets": ([{"a"}, "b"], ["row 1", "'b'", "set"]),
    "a_number_among_lists": ([["a", "b"], 3], ["row 1", "3", "set"]),
    "continuous": ([{0.5}, {1.5}], ["row 0", "0.5", "continuous"]),
    "infinite": ([{1.0}, {np.inf}], ["row 1", "inf"]),
}


@pytest.mark.parametrize("case", BAD_SETS)
def test_label_sets_that_hold_something_else_are_refused_by_row(case):
    y, parts = BAD_SETS[case]
    for given in (y, objects(*y), pd.Series(y, dtype=object)):
        with raises(ValueError, "y", *parts):
            encode_labels(given)


@pytest.mark.filterwarnings("ignore:A column-vector y")
@pytest.mark.parametrize(
    "y",
    [
        [{"b", "a"}, set(), {"b"}],
        [frozenset("ab"), frozenset(), frozenset("b")],
        [["a", "b", "a"], [], ["b"]],
        [{"a": 1, "b": 2}.keys(), {}.keys(), {"b": 0}.keys()],
        [np.array(["a", "b"]), np.array([], dtype=str), np.array(["b"])],
        [{Word.GOOD: 0, "a": 0}.keys() - {"good"} | {"b"}, set(), {np.str_("b")}],
        pl.Series([["a", "b"], [], ["b"]]),
        pa.array([["a", "b"], [], ["b"]]),
        pd.Series([["a", "b"], [], ["b"]], dtype=pd.ArrowDtype(pa.list_(pa.string()))),
        pd.DataFrame({"tags": [{"a", "b"}, set(), {"b"}]}),
    ],
    ids=lambda y: type(y).__name__,
)
def test_rows_of_labels_may_be_any_collection(y):
    labels = encode_labels(y)
    assert labels.classes.tolist() == ["a", "b"]
    assert labels.codes.tolist() == [[1, 1], [0, 0], [0, 1]]


def test_rows_without_a_label_are_fine_where_the_classes_are_known():
    assert not encode_labels([set(), set()], check_classes(["a", "b"])).codes.any()


MATRIX = np.array([[1, 0], [0, 1], [1, 1]])
NO_INDICATORS = {
    "minus_one": (2 * MATRIX - 1, "-1"),
    "two": (MATRIX + 1, "2"),
    "half": (MATRIX / 2, "0.5"),
    "nan": (np.where(MATRIX, 1, np.nan), "nan"),
    "infinite": (np.where(MATRIX, 1, np.inf), "inf"),
    "complex": (MATRIX.astype(complex), "(1+0j)"),
    "texts": (MATRIX.astype(str), "'1'"),
    "bytes": (MATRIX.astype("S1"), "b'1'"),
    "durations": (MATRIX.astype("m8[s]"), "1 second"),
    "objects": (np.where(MATRIX, True, None), "None"),
    "masked": (np.ma.array(MATRIX, mask=MATRIX == 0), "None"),
    "list": ((MATRIX + 1).tolist(), "2"),
    "sparse": (scipy.sparse.csr_array(2 * MATRIX), "2"),
    "sparse_nan": (scipy.sparse.csc_matrix(MATRIX * np.nan), "nan"),
    "sparse_negative": (scipy.sparse.lil_matrix(-MATRIX), "-1"),
    "sparse_twice": (scipy.sparse.coo_array(([1, 1], ([0, 0], [1, 1])), shape=(3, 2)), "2"),
    "frame": (pd.DataFrame(MATRIX + 1, columns=["a", "b"]), "2"),
    "frame_of_words": (pd.DataFrame({"a": ["x", "y", "z"], "b": [1, 0, 1]}), "'x'"),
    "frame_with_na": (pd.DataFrame({"a": pd.array([1, None, 0]), "b": [1, 0, 1]}), "<NA>"),
    "polars": (pl.DataFrame({"a": [1, 2, 0], "b": [1, 0, 1]}), "2"),
    "polars_null": (pl.DataFrame({"a": [True, None, False], "b": [True] * 3}), "None"),
    "arrow": (pa.table({"a": [1, None, 0], "b": [1, 0, 1]}), "None"),
}


@pytest.mark.parametrize("case", NO_INDICATORS)
def test_anything_but_zeros_and_ones_in_a_matrix_is_refused_by_place(case):
    y, value = NO_INDICATORS[case]
    with raises(ValueError, "2 columns", "indicator", "row ", f"has {value}", "in column ", "sets"):
        encode_labels(y)
    with raises(ValueError, "y_val", f"has {value}"):
        encode_labels(y, np.array(["a", "b"]), name="y_val")


SPARSE = ["csr", "csc", "coo", "lil", "dok", "bsr"]


@pytest.mark.parametrize(
    "y",
    [
        MATRIX, MATRIX.astype(bool), MATRIX.astype(float), MATRIX.astype(object), MATRIX.tolist(),
        MATRIX.astype(bool).tolist(), np.ma.array(MATRIX), torch.tensor(MATRIX),
        [np.array(row) for row in MATRIX], [torch.tensor(row) for row in MATRIX],
        pd.DataFrame(MATRIX), pd.DataFrame(MATRIX.astype(bool)),
        *(scipy.sparse.coo_array(MATRIX).asformat(kind) for kind in SPARSE),
        scipy.sparse.csr_matrix(MATRIX.astype(bool)),
    ],
    ids=lambda y: f"{type(y).__name__}-{getattr(y, 'dtype', '')}",
)  # fmt: skip
def test_zeros_and_ones_or_truth_values_are_indicators_however_they_are_held(y):
    labels = encode_labels(y)
    assert labels.codes.tolist() == MATRIX.tolist()
    assert labels.classes.tolist() == [0, 1]


def test_a_sparse_target_is_not_changed():
    y = scipy.sparse.coo_array(([1, 0, 0], ([0, 1, 1], [0, 1, 1])), shape=(2, 2))
    encode_labels(y)
    assert y.nnz == 3


# ---------------------------------------------------------------- names of columns

FRAMES = {
    "pandas": lambda names: pd.DataFrame(MATRIX, columns=names),
    "pandas_booleans": lambda names: pd.DataFrame(MATRIX.astype(bool), columns=names),
    "pandas_nullable": lambda names: pd.DataFrame(MATRIX, columns=names, dtype="Int8"),
    "pandas_sparse": lambda names: pd.DataFrame.sparse.from_spmatrix(
        scipy.sparse.csr_matrix(MATRIX), columns=names
    ),
    "polars": lambda names: pl.DataFrame(MATRIX, schema=names),
    "arrow": lambda names: pa.Table.from_arrays(
        [pa.array(column) for column in MATRIX.T], names=names
    ),
}


@pytest.mark.parametrize("frame", FRAMES)
def test_names_of_an_indicator_frames_columns_are_its_classes_in_their_order(frame):
    labels = encode_labels(FRAMES[frame](["red", "blue"]))
    assert labels.classes.tolist() == ["red", "blue"]
    assert labels.codes.tolist() == MATRIX.tolist()


@pytest.mark.parametrize("frame", FRAMES)
def test_named_columns_are_found_by_their_names(frame):
    labels = encode_labels(FRAMES[frame](["red", "blue"]), np.array(["blue", "red"]))
    assert labels.classes.tolist() == ["blue", "red"]
    assert labels.codes.tolist() == MATRIX[:, ::-1].tolist()
    with raises(ValueError, "y has the columns ['red', 'green']", "['blue', 'red']"):
        encode_labels(FRAMES[frame](["red", "green"]), np.array(["blue", "red"]))


def test_whole_numbers_may_name_columns():
    frame = pd.DataFrame(MATRIX, columns=[20, 10])
    assert encode_labels(frame).classes.tolist() == [20, 10]


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (["a", "a"], ["y.columns", "differ", "['a', 'a']"]),
        (["a", 1], ["y.columns mixes", "int, str"]),
        ([("a", 1), ("b", 2)], ["y.columns column 0", "('a', 1)", "tuple"]),
        ([None, "a"], ["y.columns contains NaN", "column 0"]),
        (DATES, ["y.columns column 0", "date"]),
    ],
    ids=str,
)
def test_names_of_columns_that_are_no_labels_are_refused(names, parts):
    with raises(ValueError, *parts):
        encode_labels(pd.DataFrame(MATRIX, columns=pd.Index(names, dtype=object)))


# ---------------------------------------------------------------- known classes


def test_classes_come_sorted_from_any_collection():
    for classes in (
        ["b", "a", "b"],
        {"b", "a"},
        ("b", "a"),
        pd.Series(["b", "a"]),
        {"b": 0, "a": 0}.keys(),
    ):
        assert check_classes(classes).tolist() == ["a", "b"]


@pytest.mark.parametrize("y", [MATRIX, MATRIX.tolist(), scipy.sparse.csr_array(MATRIX)], ids=type)
def test_classes_name_the_columns_of_a_matrix_in_the_order_given(y):
    classes = check_classes(["red", "blue"], y)
    assert encode_labels(y, classes).classes.tolist() == ["red", "blue"]
    assert check_classes(["red", "blue"], ["red", "blue"]).tolist() == ["blue", "red"]


@pytest.mark.parametrize(
    "classes", ["ab", 3, None, iter("ab"), {"a": 1}, [], [["a"], ["b"]], np.eye(2)]
)
def test_classes_that_are_no_list_of_labels_are_refused(classes):
    with raises((TypeError, ValueError), "classes"):
        check_classes(classes)


def test_other_classes_than_the_known_ones_are_refused():
    known = check_classes(["a", "b"])
    assert check_classes({"b", "a"}, known=known).tolist() == ["a", "b"]
    with raises(ValueError, "classes=['a', 'c']", "['a', 'b']"):
        check_classes(["a", "c"], known=known)


def test_a_label_that_is_not_known_is_never_right_where_it_is_not_refused():
    classes = check_classes(["a", "b"])
    one = encode_labels(["b", "c", "a"], classes, refuse_unseen=False)
    assert one.codes.tolist() == [1, -1, 0]
    several = encode_labels([{"a"}, {"a", "c"}, set()], classes, refuse_unseen=False)
    assert several.codes.tolist() == [[1, 0], [-1, -1], [0, 0]]


def test_a_long_list_of_classes_is_shown_in_part():
    classes = check_classes([f"class {i}" for i in range(1000)])
    with raises(ValueError, "'zebra'", "'class 0'", "...") as caught:
        encode_labels(["zebra"], classes)
    assert len(str(caught.value)) < 400


# ---------------------------------------------------------------- numbers

NO_NUMBERS = {
    "text": (["1.5", "2"], ["row 0", "'1.5'", "str", "float(value)"]),
    "text_array": (np.array(["1.5", "2"]), ["'1.5'", "str"]),
    "bytes": (np.array([b"1", b"2"]), ["b'1'", "bytes"]),
    "words_in_a_frame": (pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}), ["row 0", "'x'"]),
    "date": (DATES, ["date", "numpy.timedelta64"]),
    "datetime64": (np.array(DATES, dtype="M8[D]"), ["datetime64", "numpy.timedelta64"]),
    "timestamps": (STAMPS, ["datetime64", "numpy.timedelta64"]),
    "arrow_dates": (pa.array(DATES), ["date", "numpy.timedelta64"]),
    "timedelta": ([datetime.timedelta(1)] * 2, ["timedelta", "unit of time"]),
    "timedelta64": (np.array([1, 2], dtype="m8[s]"), ["timedelta64", "unit of time"]),
    "timedelta64_objects": (objects(np.timedelta64(1, "s"), 1), ["timedelta64", "unit of time"]),
    "complex": ([1j, 2], ["1j", "complex", "two columns"]),
    "complex_array": (np.array([1j, 2]), ["1j", "complex"]),
    "enum": ([Mood.GOOD, Mood.BAD], ["Mood", "value"]),
    "objects": ([object(), object()], ["type object"]),
    "ragged": ([[1, 2], [3]], ["row 0", "list"]),
    "sets": ([{1}, {2}], ["set"]),
    "records": (np.array([(1, 2), (3, 4)], dtype="i,i"), ["(1, 2)"]),
    "too_large": ([10**400, 1], ["row 0", "infinity", "1000", "float64"]),
    "too_large_longdouble": (np.array([1, 2]) * np.longdouble("1e4000"), ["row 0", "inf"]),
    "three_dimensions": (np.zeros((2, 2, 2)), ["numbers", "(2, 2, 2)"]),
    "no_column": (np.zeros((2, 0)), ["numbers", "(2, 0)"]),
}


@pytest.mark.parametrize("case", NO_NUMBERS)
def test_what_is_no_number_is_refused_by_row_and_type_with_a_way_out(case):
    y, parts = NO_NUMBERS[case]
    with raises(ValueError, "y", *parts):
        check_numbers(y, np.ones(2))


def test_a_sparse_target_of_numbers_is_refused():
    with raises(TypeError, "y", "sparse", "toarray()"):
        check_numbers(scipy.sparse.csr_array(MATRIX), np.ones(3))


@pytest.mark.parametrize(
    "y",
    [
        [True, False], np.array([True, False]), objects(1, 0.0), [Decimal(1), 0], [Level.LOW, 0],
        np.array([1, 0], dtype=np.longdouble), np.array([1, 0], dtype=np.float16),
        torch.tensor([1.0, 0.0], requires_grad=True), torch.tensor([1, 0], dtype=torch.bfloat16),
        [torch.tensor(1.0), torch.tensor(0.0)], pd.Series([1, 0], dtype="Int64"), pa.array([1, 0]),
        pl.Series([1, 0]), pd.Series([1, 0], dtype="category"), (1, 0), range(1, -1, -1),
    ],
    ids=lambda y: f"{type(y).__name__}-{getattr(y, 'dtype', '')}",
)  # fmt: skip
def test_numbers_are_read_however_they_are_held(y):
    assert check_numbers(y, np.ones(2)).values.tolist() == [[1.0], [0.0]]


def test_a_huge_whole_number_is_a_number():
    assert check_numbers([2**70, 1], np.ones(2)).values[0, 0] == 2.0**70


HIGHEST, LOWEST = np.finfo(float).max, np.finfo(float).smallest_subnormal


@pytest.mark.parametrize(
    "y",
    [
        [HIGHEST, -HIGHEST], [HIGHEST, HIGHEST, 0.0], [HIGHEST, np.nextafter(HIGHEST, 0)],
        [0.0, LOWEST], [LOWEST, 2 * LOWEST, 3 * LOWEST], [1e-300, 2e-300], [1e300, 2e300],
        [1e15, 1e15 + 1], [1.0, np.nextafter(1.0, 2)], [1e300, 1e-300], [-1e300, 1.0],
        [0.1 + 0.2, 0.3],
    ],
    ids=str,
)  # fmt: skip
def test_numbers_of_any_size_go_there_and_back(y):
    numbers = check_numbers(y, np.ones(len(y)))
    z = standardise(numbers.values, numbers.mean, numbers.scale)
    assert np.isfinite(z.astype(np.float32)).all()
    assert len(np.unique(z)) == len(np.unique(y))
    assert np.abs(z).max() <= 2
    size = np.abs(y).max()
    error = restore(z, numbers.mean, numbers.scale)[:, 0] / size - np.divide(y, size)
    assert np.abs(error).max() <= 4 * np.finfo(float).eps


@pytest.mark.parametrize("value", [7.0, 1e300, -1e-300, LOWEST, HIGHEST])
def test_the_scale_of_a_constant_is_its_size(value):
    numbers = check_numbers([value] * 3, np.array([1.0, 2.0, 1e-12]))
    assert (numbers.mean[0], numbers.scale[0]) == (value, abs(value))
    assert check_numbers([0.0, 0.0], np.ones(2)).scale.tolist() == [1.0]


def test_columns_have_units_of_their_own():
    y = np.array([[1e300, 1e-300], [3e300, 3e-300], [1e300, 3e-300]])
    numbers, plain = check_numbers(y, np.ones(3)), check_numbers(y * [1e-300, 1e300], np.ones(3))
    np.testing.assert_allclose(
        standardise(numbers.values, numbers.mean, numbers.scale),
        standardise(plain.values, plain.mean, plain.scale),
        rtol=1e-12,
    )


def test_the_mean_of_the_highest_numbers_is_not_rounded_out_of_range():
    weights = np.array([1e-12, 97032685511.2309, 59250902425.81501])  # these would be
    numbers = check_numbers([-HIGHEST, HIGHEST, HIGHEST], weights)
    assert numbers.mean[0] == HIGHEST


def test_rows_of_weight_zero_have_no_say_in_the_units():
    numbers = check_numbers([1.0, 3.0, 1e300], np.array([1.0, 1.0, 0.0]))
    assert (numbers.mean[0], numbers.scale[0]) == (2.0, 1.0)


def test_what_is_far_from_the_fitted_numbers_stays_finite():
    mean, scale = np.array([0.0, 1e300]), np.array([1e-300, 1e290])
    z = standardise(np.array([[1e300, -HIGHEST], [-HIGHEST, 0.0]]), mean, scale)
    assert np.isfinite(z).all()
    assert (np.sign(z) == [[1, -1], [-1, -1]]).all()
    outputs = np.array([[np.finfo(np.float32).max, 1e9]])
    assert restore(outputs, mean, np.array([1.0, HIGHEST])).tolist()[0][1] == HIGHEST


# ---------------------------------------------------------------- weights

BAD_WEIGHTS = {
    "too_small": ([1.0, 1e-300], ["row 1", "1e-300", "1e-12 to 1e+12"]),
    "too_large": ([1.0, 1e300], ["row 1", "1e+300", "1e-12 to 1e+12"]),
    "all_too_small": ([1e-300, 1e-300], ["row 0", "1e-300"]),
    "all_too_large": ([1e300, 1e300], ["row 0", "1e+300"]),
    "subnormal": ([LOWEST, 1.0], ["row 0", "5e-324"]),
    "large_integer": ([10**400, 1], ["row 0", "infinity"]),
    "large_longdouble": (np.array([1, 2]) * np.longdouble("1e4000"), ["infinity"]),
    "small_longdouble": (np.array([1, 2]) * np.longdouble("1e-400"), ["zero"]),
    "infinite": ([np.inf, 1.0], ["row 0", "inf"]),
    "negative": ([1.0, -1e-300], ["negative", "row 1", "-1e-300"]),
    "false": ([False, False], ["zero"]),
    "zero": (0, ["zero"]),
    "text": (["1", "2"], ["row 0", "'1'", "str"]),
    "one_text": ("1", ["'1'", "str"]),
    "text_array": (np.array(["1", "2"]), ["'1'", "str"]),
    "complex": ([1j, 1], ["1j", "complex"]),
    "durations": (np.array([1, 2], dtype="m8[s]"), ["timedelta64"]),
    "dates": (DATES, ["date"]),
    "scalar_none": ([None, 1], ["NaN", "row 0"]),
    "scalar_nan": (float("nan"), ["NaN"]),
    "scalar_na": (pd.NA, ["NaN"]),
    "frame": (pd.DataFrame({"w": [1.0, 2.0]}), ["1D", "(2, 1)"]),
    "ragged": ([[1], [1, 2]], ["row 0", "list"]),
    "long": ([1.0, 1.0, 1.0], ["X has 2 rows", "sample_weight has 3"]),
}


@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_weights_that_weigh_nothing_are_refused_in_a_sentence_that_names_them(case):
    weights, parts = BAD_WEIGHTS[case]
    with raises(ValueError, *parts) as caught:
        check_weights(weights, 2)
    assert "sample_weight" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "weights",
    [
        [2, 0], [2.0, 0.0], objects(2, 0.0), np.array([2, 0], dtype=np.longdouble),
        np.array([2, 0], dtype=np.uint8), np.ma.array([2, 0]), [Decimal(2), 0], pa.array([2, 0]),
        pd.Series([2, 0], dtype="Int64"), pl.Series([2, 0]), torch.tensor([2, 0]), (np.int8(2), 0),
    ],
    ids=lambda w: f"{type(w).__name__}-{getattr(w, 'dtype', '')}",
)  # fmt: skip
def test_weights_are_read_however_they_are_held(weights):
    found = check_weights(weights, 2)
    assert found.dtype == np.float64
    assert found.tolist() == [2.0, 0.0]


class _TurnsIntoAnArray:
    """Of a library that has nothing but this."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype=dtype)


def test_what_can_do_no_more_than_turn_into_an_array_is_read_as_that():
    assert encode_labels(_TurnsIntoAnArray(["b", "a"])).classes.tolist() == ["a", "b"]
    assert encode_labels(_TurnsIntoAnArray(MATRIX)).codes.tolist() == MATRIX.tolist()
    assert check_numbers(_TurnsIntoAnArray([1, 2]), np.ones(2)).values.tolist() == [[1], [2]]
    assert check_weights(_TurnsIntoAnArray([1, 2]), 2).tolist() == [1, 2]
    with raises(TypeError, "y must hold one value for each row"):
        encode_labels(_TurnsIntoAnArray(1))


def test_truth_values_are_weights_of_one_and_zero():
    for weights in ([True, False], np.array([True, False]), objects(np.bool_(True), False)):
        assert check_weights(weights, 2).tolist() == [1.0, 0.0]


def test_one_number_is_the_weight_of_every_row():
    for weight in (2, 2.0, np.float32(2), np.array(2), torch.tensor(2)):
        assert check_weights(weight, 3).tolist() == [2.0, 2.0, 2.0]


LABELS = np.array(["a", "b", "a"])
BAD_CLASS_WEIGHTS = {
    "all_zero": ({"a": 0, "b": 0}, ["zero for every row"]),
    "nan": ({"a": np.nan, "b": 1}, ["'a'", "nan"]),
    "infinite": ({"a": 1, "b": np.inf}, ["'b'", "inf"]),
    "negative": ({"a": -1, "b": 1}, ["'a'", "-1"]),
    "text": ({"a": "x", "b": 1}, ["'a'", "'x'"]),
    "number_as_text": ({"a": "2", "b": 1}, ["'a'", "'2'"]),
    "none": ({"a": None, "b": 1}, ["'a'", "None"]),
    "na": ({"a": pd.NA, "b": 1}, ["'a'", "<NA>"]),
    "list": ({"a": [1], "b": 1}, ["'a'", "[1]"]),
    "complex": ({"a": 1j, "b": 1}, ["'a'", "1j"]),
    "too_small": ({"a": 1e-300, "b": 1}, ["'a'", "1e-300", "1e-12"]),
    "too_large": ({"a": 1e300, "b": 1}, ["'a'", "1e+300", "1e+12"]),
    "too_large_integer": ({"a": 10**400, "b": 1}, ["'a'", "1000"]),
    "missing_class": ({"a": 1, "z": 2}, ["'b'", "'z'", "['a', 'b']"]),
    "other_kind_of_label": ({0: 1, 1: 2}, ["'a'", "0", "['a', 'b']"]),
}


@pytest.mark.parametrize("case", BAD_CLASS_WEIGHTS)
def test_class_weights_that_are_none_are_refused_in_a_sentence_that_names_them(case):
    class_weight, parts = BAD_CLASS_WEIGHTS[case]
    with raises(ValueError, "class_weight", *parts) as caught:
        apply_class_weight(np.ones(3), LABELS, class_weight)
    assert "\n" not in str(caught.value)


def test_a_product_out_of_range_names_both_weights():
    with raises(ValueError, "sample_weight times class_weight={'a': 1e-09}", "row 0 is 1e-15"):
        apply_class_weight(np.array([1e-6, 1.0, 1.0]), LABELS, {"a": 1e-9})


@pytest.mark.parametrize(
    "weight", [2, 2.0, np.float32(2), np.int64(2), np.longdouble(2), Decimal(2)]
)
def test_class_weights_may_be_any_number(weight):
    assert apply_class_weight(np.ones(3), LABELS, {np.str_("a"): weight}).tolist() == [2, 1, 2]


def test_labels_that_look_like_numbers_have_the_weights_of_their_texts():
    y = np.array(["0", "1"])
    assert apply_class_weight(np.ones(2), y, {"0": 5, "1": 1}).tolist() == [5, 1]


def test_a_batch_need_not_have_every_class_that_has_a_weight():
    classes = np.array(["a", "b", "c"])
    found = apply_class_weight(np.ones(3), LABELS, {"c": 3.0}, classes=classes)
    assert found.tolist() == [1.0, 1.0, 1.0]
    with raises(ValueError, "class_weight", "'z'"):
        apply_class_weight(np.ones(3), LABELS, {"z": 3.0}, classes=classes)


def test_balanced_classes_weigh_the_same_by_weights_and_not_by_rows():
    weights = np.array([3.0, 1.0, 0.0, 2.0])
    found = apply_class_weight(weights, np.array(["a", "b", "b", "b"]), "balanced")
    assert found.tolist() == [3.0, 1.0, 0.0, 2.0]
    assert apply_class_weight(weights * [2, 1, 1, 1], np.array(["a", "b", "b", "b"]), "balanced")[
        0
    ] == pytest.approx(4.5)


@pytest.mark.parametrize("dtype", ["M8[D]", "M8[ns]", "m8[s]"])
def test_an_array_of_dates_or_durations_holds_labels(dtype):
    labels = np.array([3, 1, 3], dtype="i8").astype(dtype)
    found = encode_labels(labels)
    np.testing.assert_array_equal(found.classes[found.codes], labels)
    assert found.classes.dtype == labels.dtype
    labels[1] = "NaT"
    with raises(ValueError, "row 1", "missing"):
        encode_labels(labels)


@pytest.mark.parametrize("as_sets", [False, True])
def test_ten_thousand_classes_are_encoded_at_once(as_sets):
    labels = [f"label {i}" for i in range(10_000)]
    y = [{label} for label in labels[:500]] + [set(labels)] if as_sets else labels
    started = time.process_time()
    encoded = encode_labels(y)
    again = encode_labels(y, encoded.classes)
    assert time.process_time() - started < 2  # seconds; it takes a twentieth of that
    assert len(encoded.classes) == 10_000
    np.testing.assert_array_equal(again.codes, encoded.codes)
