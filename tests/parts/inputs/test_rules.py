"""The rules of parameters: what they accept, what they say, and numpy's scalars among them."""

import os
from collections import OrderedDict, namedtuple
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from helpers import named, raises

from sklopa._inputs.rules import (
    PATH,
    RANDOM_STATE,
    TEMPERATURE,
    TEXTS,
    as_plain,
    check_parameters,
    integer,
    real,
    shown,
)


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        (integer(0), [0, 7, np.int8(3), np.uint64(2**63), 10**30], [
            -1, 1.0, True, np.bool_(True), "1", None, np.timedelta64(1, "s"), np.array(1), [1],
        ]),
        (integer(1, 5), [1, 5, np.int64(5)], [0, 6, np.uint8(6)]),
        (real(0), [0, 0.5, np.float32(1), np.longdouble(2), 10**300], [
            -1, float("nan"), float("inf"), np.longdouble("inf"), 10**400, Fraction(1, 2), 1j, "1",
            True, None, np.timedelta64(1), np.datetime64("2020"), np.array(1.0),
        ]),
        (real(0, 1, open_low=True), [0.5, np.float16(0.5)], [0, 1, 0.0, 1.0]),
        (TEMPERATURE, [1e-6, 1, 0.7, 1e6], [0, 1e-7, 1e-40, 5e-324, 1e7, 1e300, None]),
        (TEXTS, ["a", ["a", "b"], ("a",), [], np.str_("a"), [" "]], [
            "", [""], ["a", ""], np.str_(""), ("",), 3, [3], [None], {"a"}, b"a", None, [["a"]],
        ]),
        (RANDOM_STATE, [0, 2**32 - 1, np.uint32(7), None, np.random.RandomState(0)], [
            -1, 2**32, 2**40, 10**30, 1.0, "0", True, np.random.default_rng(0), [1, 2],
        ]),
        (PATH, ["a", Path("a"), ".", " "], ["", "a\0b", Path("a\0b"), 3, None, b"a"]),
    ],
    ids=["integer", "range", "real", "open", "temperature", "texts", "random_state", "path"],
)  # fmt: skip
def test_a_rule_accepts_what_it_says_and_nothing_else(rule, good, bad):
    assert [value for value in good if not rule.accepts(value)] == []
    assert [value for value in bad if rule.accepts(value)] == []


def test_what_numpy_takes_as_a_seed_is_what_the_rule_takes():
    np.random.RandomState(2**32 - 1)
    with pytest.raises(ValueError, match="Seed"):
        np.random.RandomState(2**32)
    assert "from 0 to 4294967295" in RANDOM_STATE.allowed


def test_the_lowest_temperature_keeps_logits_finite_in_float32():
    logits = np.array([-1000, 1000], dtype=np.float32)
    assert np.isfinite(logits / np.float32(1e-6)).all()
    assert np.isfinite(np.float32(1e6))


Pair = namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.int64(2), 2),
        (np.uint8(2), 2),
        (np.float32(0.5), 0.5),
        (np.longdouble(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.bytes_(b"a"), b"a"),
        (np.complex64(1j), 1j),
        ({np.int64(0): np.float64(2.0)}, {0: 2.0}),
        ({np.str_("a"): {np.bool_(True): [np.int8(1)]}}, {"a": {True: [1]}}),
        ([np.str_("x"), "y"], ["x", "y"]),
        ((np.int16(1), (np.int32(2),)), (1, (2,))),
        (Pair(np.int8(1), "x"), Pair(1, "x")),
        (OrderedDict({np.int8(1): 1}), {1: 1}),
        (np.str_("a\0"), "a\0"),
    ],
    ids=named,
)
def test_numpy_scalars_become_pythons_wherever_they_stand(value, plain):
    found = as_plain(value)
    assert found == plain
    assert repr(found) == repr(plain)


@pytest.mark.parametrize(
    "value",
    [
        None, "a", 3, 0.5, True, np.arange(2), np.timedelta64(1, "s"), np.datetime64("2020"),
        Path("a"), np.random.RandomState(0), object(), {"a"}, np.array(2),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_everything_else_stays_what_it_is(value):
    assert as_plain(value) is value


class _Large:
    def __repr__(self):
        return "Model(\n" + "  (layer): Linear()\n" * 100 + ")"


def test_a_bad_value_is_shown_in_a_line_as_it_would_be_written():
    with raises(
        ValueError, "owner: parameter rank must be an integer >= 0; got Model( (layer)"
    ) as it:
        check_parameters("owner", {"rank": _Large()}, {"rank": integer(0)})
    assert "\n" not in str(it.value)
    assert len(str(it.value)) < 250
    with raises(ValueError, "got -1"):
        check_parameters("owner", {"rank": np.int64(-1)}, {"rank": integer(0)})
    assert shown([np.float32(0.5), np.str_("a")]) == "[0.5, 'a']"
    assert shown(np.datetime64("2020")) == "2020"


def test_no_rule_takes_the_working_directory_for_a_folder_that_was_named():
    assert os.path.samefile(Path(""), ".")
    assert not PATH.accepts("")
