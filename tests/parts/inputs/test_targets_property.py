"""For whatever is given as y, weights or parameters: the right result, or an error of ours."""

import datetime
import enum
import json
import math
import warnings
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import MultiLabelBinarizer
from sklearn.utils.class_weight import compute_class_weight

from sklopa import LoPAClassifier, LoPAGenerator, LoPAImageClassifier, LoPARegressor
from sklopa._estimators.parameters import rules_of
from sklopa._inputs.labels import check_classes, encode_labels
from sklopa._inputs.numeric import check_numbers, restore, standardise
from sklopa._inputs.rules import as_plain, check_parameters
from sklopa._inputs.texts import check_target_texts, check_texts
from sklopa._inputs.weights import LARGEST, SMALLEST, apply_class_weight, check_weights
from sklopa.errors import SklopaError

# The same examples in every run.
repeatable = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=300,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
pytestmark = [
    pytest.mark.filterwarnings("ignore:A column-vector"),
    pytest.mark.filterwarnings("ignore:The number of unique classes"),
]


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Word(str, enum.Enum):
    RED = "red"
    BLUE = "blue"


texts = st.text(max_size=4)
whole = st.one_of(
    st.integers(-3, 3), st.integers(), st.sampled_from([2**53, 2**63, -(2**63), 2**64])
)
floats = st.one_of(st.sampled_from([0.0, 1.0, -2.0, 0.5]), st.floats())
missing = st.sampled_from([None, math.nan, np.float32("nan"), pd.NA, pd.NaT, np.ma.masked])
odd = st.sampled_from([
    Colour.RED, datetime.date(2020, 1, 1), datetime.timedelta(1), np.datetime64("2020"),
    np.timedelta64(3, "s"), b"red", 1j, np.complex64(1), Decimal("1.5"), Fraction(1, 3), object(),
    ("a",), {"a": 1}, range(2), int, Decimal("NaN"), Decimal("sNaN"), 10**400, np.void(b"a"),
])  # fmt: skip
numpy_numbers = st.sampled_from([
    np.int8(1), np.uint64(2**63), np.float16(2), np.longdouble(3), np.bool_(True), np.str_("red"),
])  # fmt: skip
anything = st.one_of(
    texts, whole, floats, st.booleans(), missing, odd, numpy_numbers, st.sampled_from(Word)
)
# Most columns are of one kind; some have something else among them.
column = st.one_of(
    *(st.lists(kind, min_size=1, max_size=6) for kind in (texts, whole, floats, st.booleans())),
    st.lists(st.sampled_from([*Word, "green", np.str_("red")]), min_size=1, max_size=6),
    st.lists(st.one_of(st.integers(-3, 3), numpy_numbers), min_size=1, max_size=4),
    st.lists(anything, min_size=1, max_size=4),
)


def as_objects(items):
    return np.fromiter(items, dtype=object, count=len(items))


KEEP_ITEMS = {
    "list": list,
    "tuple": tuple,
    "object array": as_objects,
    "object series": lambda items: pd.Series(as_objects(items), dtype=object),
    "masked objects": lambda items: np.ma.array(as_objects(items), mask=[0] * len(items)),
}
# What else of libraries there is makes items its own, or refuses them.
CONVERT_ITEMS = {
    "array": np.array,
    "series": pd.Series,
    "nullable": lambda items: pd.Series(items).convert_dtypes(),
    "categorical": lambda items: pd.Series(pd.Categorical(items)),
    "polars": lambda items: pl.Series(items, strict=True),
    "arrow": pa.array,
    "pandas arrow": lambda items: pd.Series(
        pa.array(items), dtype=pd.ArrowDtype(pa.array(items).type)
    ),
    "string dtype": lambda items: np.array(items, dtype=np.dtypes.StringDType()),
}


def convert(make, items):
    """Items in a container of some library, and what it says they are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            made = make(items)
            return made, made.to_pylist() if hasattr(made, "to_pylist") else list(made)
        except (Exception, pl.exceptions.PanicException):
            assume(False)


# ---------------------------------------------------------------- what is right, in plain Python


def is_missing(value):
    if value is None or value is pd.NA or value is pd.NaT or value is np.ma.masked:
        return True
    if isinstance(value, Decimal):
        return value.is_nan()
    return isinstance(value, (float, np.floating, complex)) and value != value


def plain_label(value):
    """The label that a value is, as Python has it; None if it is none."""
    if is_missing(value) or isinstance(value, (np.timedelta64, np.datetime64)):
        return None
    if isinstance(value, str):
        return "".join(value)
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, np.longdouble):
        value = float(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, float):
        return value if value.is_integer() and abs(value) <= 2**53 else None
    return int(value) if isinstance(value, int) else None


def right_labels(items):
    """Labels as Python values, or None where they are to be refused."""
    labels = [plain_label(value) for value in items]
    if any(label is None for label in labels):
        return None
    if (
        len({str if isinstance(v, str) else bool if isinstance(v, bool) else int for v in labels})
        > 1
    ):
        return None
    if any(isinstance(v, (str, bool)) for v in labels):
        return labels
    low, high = min(labels), max(labels)
    if any(isinstance(v, float) for v in labels):
        return labels if max(-low, high) <= 2**53 else None
    return labels if (low >= -(2**63) and high < 2**63) or (low >= 0 and high < 2**64) else None


def check_encoded(y, right, **options):
    if right is None:
        with pytest.raises(SklopaError):
            encode_labels(y, **options)
        return
    encoded = encode_labels(y, **options)
    assert encoded.codes.dtype == np.int64
    assert encoded.classes.tolist() == sorted(set(right))
    assert encoded.classes[encoded.codes].tolist() == right


# ---------------------------------------------------------------- labels


@repeatable
@given(column, st.sampled_from(sorted(KEEP_ITEMS)))
def test_a_column_is_encoded_as_its_items_are_or_refused(items, container):
    check_encoded(KEEP_ITEMS[container](items), right_labels(items))


@repeatable
@given(column, st.sampled_from(sorted(CONVERT_ITEMS)))
def test_a_column_of_any_library_is_encoded_as_it_reads_or_refused(items, container):
    y, read = convert(CONVERT_ITEMS[container], items)
    assume(getattr(y, "ndim", 1) == 1)
    assume(not any(isinstance(v, (tuple, list, np.ndarray, pl.Series)) for v in read))
    check_encoded(y, right_labels(read))


@repeatable
@given(column, st.data())
def test_masked_labels_are_missing(items, data):
    assume(not any(map(is_missing, items)))
    try:
        array = np.array(items)
    except (ValueError, OverflowError, TypeError):
        assume(False)
    assume(array.ndim == 1)
    hidden = data.draw(st.integers(0, len(items) - 1))
    y = np.ma.array(array, mask=np.arange(len(items)) == hidden)
    for check in (encode_labels, check_classes):
        with pytest.raises(SklopaError):
            check(y)


@repeatable
@given(column)
def test_classes_pass_the_checks_of_y(items):
    right = right_labels(items)
    forms = [items, as_objects(items)]
    if right is not None:
        forms.append(set(right))
    for classes in forms:
        if right is None:
            with pytest.raises(SklopaError):
                check_classes(classes)
        else:
            assert check_classes(classes).tolist() == sorted(set(right))


@repeatable
@given(column, column)
def test_labels_among_known_classes_are_encoded_and_others_refused(known, items):
    classes, right = right_labels(known), right_labels(items)
    assume(classes is not None)
    classes = check_classes(known)
    if right is None or not set(right) <= set(classes.tolist()):
        with pytest.raises(SklopaError):
            encode_labels(items, classes)
    else:
        assert classes[encode_labels(items, classes).codes].tolist() == right
    if right is not None:
        codes = encode_labels(items, classes, refuse_unseen=False).codes
        assert [c >= 0 for c in codes] == [label in set(classes.tolist()) for label in right]


# ---------------------------------------------------------------- several labels a row

words = st.sampled_from(["a", "b", "c", np.str_("a"), ""])
numbers = st.integers(-2, 2)
row_kinds = st.sampled_from([set, frozenset, list, tuple])
sets_of = lambda kind: st.lists(st.lists(kind, max_size=3), min_size=1, max_size=5)  # noqa: E731


@repeatable
@given(
    st.one_of(sets_of(words), sets_of(numbers), sets_of(anything)),
    row_kinds,
    st.sampled_from(sorted(KEEP_ITEMS)),
)
def test_label_sets_are_encoded_as_scikit_learn_does_or_refused(rows, kind, container):
    try:
        rows = [kind(row) for row in rows]
    except TypeError:  # not hashable
        assume(False)
    flat = [label for row in rows for label in row]
    numeric = all(isinstance(v, (int, float, np.number)) for v in flat) and not any(
        isinstance(v, np.timedelta64) for v in flat
    )
    # Lists of equally many numbers are a matrix.
    assume(kind in (set, frozenset) or not numeric or len({len(row) for row in rows}) > 1)
    y, right = KEEP_ITEMS[container](rows), right_labels(flat) if flat else None
    if right is None:
        with pytest.raises(SklopaError):
            encode_labels(y)
        return
    assume(all(isinstance(v, str) or v < 2**63 for v in right))  # more than scikit-learn's can
    iterator = iter(right)
    plain = [[next(iterator) for _ in row] for row in rows]
    binarizer, encoded = MultiLabelBinarizer(), encode_labels(y)
    np.testing.assert_array_equal(encoded.codes, binarizer.fit_transform(plain))
    assert encoded.classes.tolist() == binarizer.classes_.tolist()
    assert encoded.codes.dtype == np.float32
    again = encode_labels(y, encoded.classes)
    np.testing.assert_array_equal(again.codes, encoded.codes)


bits = st.sampled_from([0, 1, True, False, 1.0, 0.0, np.int8(1), np.bool_(False)])
no_bits = st.sampled_from([2, -1, 0.5, math.nan, None, "1", math.inf, 1j, b"1", Decimal(1), pd.NA])
MATRICES = {
    "rows": lambda m: [list(row) for row in m],
    "array": lambda m: np.array([list(row) for row in m]),
    "objects": lambda m: m,
    "masked": lambda m: np.ma.array(m, mask=np.zeros(m.shape, dtype=bool)),
    "frame": lambda m: pd.DataFrame(m, columns=["z", "a", "m"]),
    "inferred frame": lambda m: pd.DataFrame(m, columns=["z", "a", "m"]).infer_objects(),
    "polars": lambda m: pl.DataFrame(dict(zip("zam", m.T.tolist(), strict=True)), strict=True),
    "arrow": lambda m: pa.table(dict(zip("zam", m.T.tolist(), strict=True))),
    **{
        kind: lambda m, kind=kind: scipy.sparse.coo_array(np.array(m.tolist())).asformat(kind)
        for kind in ("csr", "csc", "coo", "lil", "dok")
    },
}


@repeatable
@given(
    st.lists(st.lists(bits, min_size=3, max_size=3), min_size=1, max_size=4),
    st.one_of(st.none(), no_bits),
    st.sampled_from(sorted(MATRICES)),
    st.data(),
)
def test_indicators_are_zeros_and_ones_or_refused(rows, wrong, container, data):
    matrix = np.empty((len(rows), 3), dtype=object)
    matrix[:] = rows
    expected = matrix.astype(float)
    if wrong is not None:
        place = data.draw(st.tuples(st.integers(0, len(rows) - 1), st.integers(0, 2)))
        matrix[place] = wrong
    try:
        y = MATRICES[container](matrix)
    except Exception:  # of the library: it holds no such value
        assume(False)
    if wrong is not None:
        with pytest.raises(SklopaError, match="y "):
            encode_labels(y)
        return
    encoded = encode_labels(y)
    np.testing.assert_array_equal(encoded.codes, expected)
    assert encoded.codes.dtype == np.float32
    named = container in ("frame", "inferred frame", "polars", "arrow")
    assert encoded.classes.tolist() == (["z", "a", "m"] if named else [0, 1, 2])
    # Names are found again in any order; columns without names stand in that of the classes.
    known = encode_labels(y, np.array(["a", "m", "z"], dtype=object))
    order = [1, 2, 0] if named else [0, 1, 2]
    np.testing.assert_array_equal(known.codes, expected[:, order])


# ---------------------------------------------------------------- numbers


def right_number(value):
    """The float64 that a value is; None if it is none."""
    if is_missing(value) or isinstance(value, (np.timedelta64, np.datetime64, complex)):
        return None
    if not isinstance(value, (bool, int, float, np.number, np.bool_, Decimal, Fraction)):
        return None
    if isinstance(value, np.complexfloating):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


any_size = st.builds(
    math.ldexp,
    st.floats(-1, 1, allow_subnormal=False),
    st.sampled_from([-1074, -900, 0, 900, 1023]),
)
number_column = st.one_of(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=6),
    st.lists(any_size, min_size=1, max_size=6),
    st.builds(lambda x, n: [x] * n, any_size, st.integers(1, 3)),
    st.lists(st.integers(), min_size=1, max_size=4),
    st.lists(anything, min_size=1, max_size=4),
)
weight_of_row = st.one_of(st.just(1.0), st.just(0.0), st.floats(SMALLEST, LARGEST))


@repeatable
@given(number_column, st.sampled_from(sorted(KEEP_ITEMS)), st.data())
def test_numbers_of_any_size_have_exact_units_or_are_refused(items, container, data):
    y, right = KEEP_ITEMS[container](items), [right_number(value) for value in items]
    weights = [
        *data.draw(st.lists(weight_of_row, min_size=len(items) - 1, max_size=len(items) - 1)),
        1,
    ]
    weights = np.array(weights, dtype=float)
    if None in right:
        with pytest.raises(SklopaError):
            check_numbers(y, weights)
        return
    found = check_numbers(y, weights)
    assert found.values[:, 0].tolist() == right
    check_units(found, right, weights)


def check_units(found, right, weights):
    """Mean and scale against sums of fractions, and there and back again."""
    values, w = [Fraction(v) for v in right], [Fraction(v) for v in weights.tolist()]
    mean = sum(a * b for a, b in zip(values, w, strict=True)) / sum(w)
    variance = sum(b * (a - mean) ** 2 for a, b in zip(values, w, strict=True)) / sum(w)
    used = [abs(v) for v, b in zip(values, w, strict=True) if b]
    rounding = Fraction(4, 2**52) * max(used) + Fraction(1, 2**1073)
    assert abs(Fraction(found.mean[0]) - mean) <= rounding
    scale = Fraction(found.scale[0])
    if variance == 0:
        assert scale == (abs(Fraction(found.mean[0])) or 1)
    else:
        room = Fraction(1, 10**6) * scale + Fraction(2, 2**1074)
        assert max(scale - room, 0) ** 2 <= variance <= (scale + room) ** 2
    z = standardise(found.values, found.mean, found.scale)
    assert np.isfinite(z).all()
    assert np.isfinite(z.astype(np.float32) ** 2).all()
    back = restore(z, found.mean, found.scale)[:, 0]
    for value, again, weight in zip(values, back.tolist(), w, strict=True):
        if weight:
            assert abs(Fraction(again) - value) <= rounding


@repeatable
@given(number_column, st.sampled_from(sorted(CONVERT_ITEMS)))
def test_numbers_of_any_library_are_read_as_they_are_or_refused(items, container):
    y, read = convert(CONVERT_ITEMS[container], items)
    assume(getattr(y, "ndim", 1) == 1)
    right = [right_number(value) for value in read]
    if None in right:
        with pytest.raises(SklopaError):
            check_numbers(y, np.ones(len(read)))
    else:
        assert check_numbers(y, np.ones(len(read))).values[:, 0].tolist() == right


# ---------------------------------------------------------------- weights


@repeatable
@given(
    st.one_of(
        st.lists(st.floats(0, 1e13), min_size=1, max_size=5),
        st.lists(st.booleans(), min_size=1, max_size=5),
        st.lists(st.one_of(any_size, anything), min_size=1, max_size=3),
    ),
    st.sampled_from(sorted(KEEP_ITEMS)),
)
def test_weights_are_taken_as_they_are_or_refused_by_name(items, container):
    weights, right = KEEP_ITEMS[container](items), [right_number(value) for value in items]
    allowed = None not in right and any(right)
    used = [v for v in right if v] if allowed else []
    usual = all(SMALLEST <= v <= LARGEST for v in used)
    # Weights that are all small, or all large, differ from usual ones in their unit alone.
    alike = used and min(used) >= 1e-30 and max(used) <= LARGEST * min(used) <= 1e42
    if allowed and (usual or (alike and max(used) <= 1e30)):
        assert check_weights(weights, len(items)).tolist() == right
    else:
        with pytest.raises(SklopaError, match=r"sample_weight|Sample weights"):
            check_weights(weights, len(items))


@repeatable
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4)), min_size=1, max_size=9))
def test_balance_counts_a_row_of_weight_three_as_three_rows(rows):
    labels, counts = np.array([label for label, _ in rows]), np.array([n for _, n in rows])
    assume(counts.any())
    repeated = labels.repeat(counts)
    classes = np.unique(repeated)
    by_class = compute_class_weight("balanced", classes=classes, y=repeated)
    expected = [
        n * dict(zip(classes, by_class, strict=True)).get(label, 1)
        for label, n in zip(labels, counts, strict=True)
    ]
    found = apply_class_weight(counts.astype(float), labels, "balanced")
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(found.sum(), counts.sum(), rtol=1e-12)


class_weights = st.dictionaries(
    st.sampled_from(["a", "b", "c", "d", 0, np.str_("e")]),
    st.one_of(st.sampled_from([0, 1, 2.5, 1e-3, True, np.float32(2), np.int64(3)]), anything),
    max_size=4,
)


@repeatable
@given(class_weights, st.lists(st.sampled_from("abc"), min_size=1, max_size=5))
def test_class_weights_are_taken_as_scikit_learn_does_or_refused_by_name(class_weight, labels):
    y, numbers = np.array(labels), {k: right_number(v) for k, v in class_weight.items()}
    found = {label: numbers.get(label, 1.0) for label in labels}
    usable = all(v is not None and (v == 0 or SMALLEST <= v <= LARGEST) for v in numbers.values())
    lacks = set(labels) - numbers.keys() and numbers.keys() - set(labels)
    if not usable or lacks or not any(found.values()):
        with pytest.raises(SklopaError, match="class_weight"):
            apply_class_weight(np.ones(len(y)), y, class_weight)
        return
    given = {k: v for k, v in numbers.items() if k in found}
    by_class = compute_class_weight(given or None, classes=np.unique(y), y=y)
    expected = by_class[np.searchsorted(np.unique(y), y)]
    np.testing.assert_array_equal(apply_class_weight(np.ones(len(y)), y, class_weight), expected)


# ---------------------------------------------------------------- parameters and texts

any_value = st.one_of(
    anything,
    st.lists(anything, max_size=2),
    st.dictionaries(texts, st.one_of(texts, whole), max_size=2),
    st.sampled_from([np.arange(2), np.array(1), np.random.RandomState(0), "linear", "sigmoid"]),
)


@repeatable
@given(
    any_value, st.sampled_from([LoPAClassifier, LoPARegressor, LoPAGenerator, LoPAImageClassifier])
)
def test_any_value_of_any_parameter_is_accepted_or_refused_by_name(value, kind):
    for name, rule in rules_of(kind).items():
        if rule.accepts(value):
            check_parameters(kind.__name__, {name: value}, {name: rule})
            if isinstance(value, (np.integer, np.floating)):
                assert type(as_plain(value)) in (int, float)
            continue
        with pytest.raises(
            SklopaError, match=f"{kind.__name__}: parameter {name} must be"
        ) as error:
            check_parameters(kind.__name__, {name: value}, {name: rule})
        assert len(str(error.value)) < 500


plain = st.recursive(
    st.one_of(texts, st.integers(), st.floats(allow_nan=False), st.booleans(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=8,
)


def with_numpy(value):
    """The same value, of numpy's scalars."""
    if isinstance(value, list):
        return [with_numpy(item) for item in value]
    if isinstance(value, dict):
        return {np.str_(key): with_numpy(item) for key, item in value.items()}
    if isinstance(value, int) and not isinstance(value, bool):
        return np.int64(value) if -(2**63) <= value < 2**63 else value
    kinds = {str: np.str_, float: np.float64, bool: np.bool_}
    return kinds.get(type(value), lambda same: same)(value)


@repeatable
@given(plain)
def test_numpy_scalars_become_pythons_at_any_depth(value):
    found = as_plain(with_numpy(value))
    assert repr(found) == repr(value)
    assert json.dumps(found) == json.dumps(value)
    assert as_plain(value) == value


@repeatable
@given(column, st.sampled_from(sorted(KEEP_ITEMS)))
def test_texts_come_back_as_they_are_or_are_refused(items, container):
    given = KEEP_ITEMS[container](items)
    surrogates = any(
        isinstance(v, str) and any("\ud800" <= c <= "\udfff" for c in v) for v in items
    )
    if all(isinstance(value, str) for value in items) and not surrogates:
        assert check_texts(given).rows == ["".join(value) for value in items]
        assert check_target_texts(given) == check_texts(given).rows
        return
    with pytest.raises(SklopaError, match="y "):
        check_target_texts(given)
    if not all(isinstance(value, (tuple, list)) for value in items):
        with pytest.raises(SklopaError, match="X "):
            check_texts(given)
