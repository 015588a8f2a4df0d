"""A catalogue of bad and odd inputs, each with what happens, for every estimator.

A row is (what is done, what comes of it): None where it works, else the builtin error and a part
of the text. A further estimator is a line in `ESTIMATORS`.
"""

import copy
import datetime
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
from helpers import raises

import sklopa
from sklopa import Backbone, LoPAClassifier, LoPAGenerator, LoPARegressor
from sklopa.errors import TruncationWarning

TEXTS = ["good film", "bad film", "fine book", "awful book"] * 2
SMALL = {
    "prompt_length": 2, "rank": 1, "bottleneck": 4, "max_iter": 1, "batch_size": 4,
    "random_state": 0,
}  # fmt: skip


@dataclass
class Subject:
    """An estimator to be tried: how it is made, and targets for 8 texts."""

    kind: type
    y: Any
    model_type: str = "bert"
    options: dict = field(default_factory=dict)

    def make(self, **changes):
        model = tiny.backbone(self.model_type)
        return self.kind(**({"model": model} | SMALL | self.options | changes))

    def fit(self, X=TEXTS, y=None, *rest, **changes):
        """A fit, and a prediction of the same rows; targets are repeated as X needs."""
        n = len(X) if hasattr(X, "__len__") else len(TEXTS)
        y = (list(self.y) * n)[:n] if y is None else y
        return self.make(**changes).fit(X, y, *rest).predict(X)

    def predict(self, X):
        return FITTED.setdefault(self.kind, self.make().fit(TEXTS, self.y)).predict(X)

    def fitted(self):
        self.predict(TEXTS[:1])
        return FITTED[self.kind]

    def predict_in_large_batches(self, X):
        return copy.copy(self.fitted()).set_params(batch_size=1000).predict(X)


FITTED: dict[type, Any] = {}
ESTIMATORS = {
    "classifier": Subject(LoPAClassifier, ["a", "b"] * 4),
    "regressor": Subject(LoPARegressor, [1.0, -2.0] * 4),
    "generator": Subject(
        LoPAGenerator, ["red film", "blue book"] * 4, "gpt2", {"max_new_tokens": 3}
    ),
}

# ---------------------------------------------------------------- texts: fitted and predicted

ODD_TEXTS = {
    "nothing": "",
    "spaces": "   ",
    "line_ends": "\n\r\n\t",
    "nul": "good\x00film",
    "nul_alone": "\x00",
    "control_characters": "".join(map(chr, range(1, 32))),
    "a_megabyte_of_words": "good " * 200_000,
    "a_megabyte_of_one_character": "x" * (1 << 20),
    "a_megabyte_of_spaces": " " * (1 << 20),
    "right_to_left": "הסרט היה טוב مرحبا",
    "direction_marks": "\u202egood\u202c film",
    "emoji_sequence": "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1eb\U0001f1f7",
    "combining_marks": "e" + "\u0301" * 200,
    "zero_width": "\u200b\u200c\u200d\ufeff",
    "chinese": "这部电影很好看",
    "private_use": "\ue000\U000f0000\U0010ffff",
    "no_characters": "\ufffe\uffff",
    "replacement": "\ufffd" * 20,
    "special_tokens_alone": "[CLS] [SEP] [PAD] [MASK] [UNK]",
    "padding_alone": "[PAD] [PAD]",
    "end_token_alone": "[EOS]",
    "braces": "{text} {mask} {0} {",
    "percent": "%s %(x)s %",
    "markup": "<s></s><|endoftext|><img src=x onerror=alert(1)>",
    "a_path": "../../etc/passwd",
    "code": "__import__('os').system('ls')",
    "one_long_word": "abc" * 1000,
    "numbers": "1e999 -0 nan None",
}


@pytest.mark.parametrize("text", ODD_TEXTS.values(), ids=ODD_TEXTS)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_odd_text_is_a_text(name, text):
    subject = ESTIMATORS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        assert len(subject.predict([text, "good film"])) == 2
        assert len(subject.fit([text, *TEXTS])) == len(TEXTS) + 1
        alone = subject.fitted().generate_prompts([text])
        # A row does not depend on its neighbours, however odd they are.
        np.testing.assert_allclose(
            subject.fitted().generate_prompts(["good film", text])[1:], alone, rtol=0, atol=1e-4
        )


# ---------------------------------------------------------------- what else is done to any of them

VALUE, TYPE, OS = ValueError, TypeError, OSError


def _closed_file(tmp_path):
    (tmp_path / "file").write_text("no archive")
    return tmp_path / "file"


ROWS = {
    # X
    "lone_surrogate": (lambda s, p: s.fit(["a\ud800", *TEXTS]), (VALUE, "row 0")),
    "lone_surrogate_in_predict": (lambda s, p: s.predict(["a", "\udfff"]), (VALUE, "row 1")),
    "string_in_predict": (lambda s, p: s.predict("good film"), (TYPE, "single text")),
    "bytes_in_predict": (lambda s, p: s.predict([b"good"]), (TYPE, "bytes")),
    "path_as_text": (lambda s, p: s.predict([Path("a")]), (TYPE, "row 0")),
    "date_as_text": (lambda s, p: s.predict([datetime.date(2024, 1, 1)]), (TYPE, "row 0")),
    "boolean_as_text": (lambda s, p: s.predict([True]), (TYPE, "row 0")),
    "nothing_in_predict": (lambda s, p: s.predict([]), (VALUE, "empty")),
    "complex_array": (lambda s, p: s.predict(np.ones(2, dtype=complex)), (TYPE, "complex")),
    "record_array": (lambda s, p: s.predict(np.zeros(2, dtype=[("a", "i4")])), (TYPE, "X")),
    "masked_array": (lambda s, p: s.predict(np.ma.array(["a", "b"])), None),
    "range": (lambda s, p: s.predict(range(3)), (TYPE, "int")),
    "all_rows_equal": (lambda s, p: s.fit(["good film"] * 8), None),
    "all_rows_empty": (lambda s, p: s.fit([""] * 8), None),
    "two_rows": (lambda s, p: s.fit(TEXTS[:2]), None),
    "one_row_in_predict": (lambda s, p: s.predict(TEXTS[:1]), None),
    "ten_thousand_equal_rows": (
        lambda s, p: s.predict_in_large_batches(["good film"] * 10_000)[:1], None
    ),
    "numpy_strings": (lambda s, p: s.predict(np.array(TEXTS)), None),
    "categorical": (lambda s, p: s.predict(pd.Categorical(TEXTS)), None),
    "frame_with_an_odd_index": (
        lambda s, p: s.predict(pd.DataFrame({"t": TEXTS}, index=[7] * 8)), None
    ),
    "frame_without_rows": (lambda s, p: s.predict(pd.DataFrame({"t": []})), (VALUE, "empty")),
    "pairs_after_texts": (lambda s, p: s.predict([("a", "b")]), (VALUE, "2 features")),
    # y and weights
    "targets_none": (lambda s, p: s.make().fit(TEXTS, None), ((VALUE, TYPE), "y")),
    "targets_short": (lambda s, p: s.fit(TEXTS, ["a", "b"]), (VALUE, "8 rows")),
    "targets_of_none": (lambda s, p: s.fit(TEXTS, [None] * 8), ((VALUE, TYPE), "row 0")),
    "weights_negative": (lambda s, p: s.fit(TEXTS, None, [-1.0] * 8), (VALUE, "negative")),
    "weights_zero": (lambda s, p: s.fit(TEXTS, None, [0] * 8), (VALUE, "zero")),
    "weights_nan": (lambda s, p: s.fit(TEXTS, None, [np.nan] * 8), (VALUE, "NaN")),
    "weights_infinite": (lambda s, p: s.fit(TEXTS, None, [np.inf] * 8), (VALUE, "infinity")),
    "weights_tiny": (lambda s, p: s.fit(TEXTS, None, [1e-30] * 8), None),
    "weights_integer": (lambda s, p: s.fit(TEXTS, None, [1, 2] * 4), None),
    "weights_text": (lambda s, p: s.fit(TEXTS, None, ["1"] * 7 + ["x"]), (VALUE, "weight")),
    # constructor
    "huge_prompt": (lambda s, p: s.fit(prompt_length=10**9), (VALUE, "leave room")),
    "huge_rank": (lambda s, p: s.fit(prompt_length=50, rank=50), (VALUE, "rank")),
    "rank_over_prompt": (lambda s, p: s.fit(rank=3), (VALUE, "at most prompt_length")),
    "prompt_of_nan": (lambda s, p: s.fit(prompt_length=np.nan), (VALUE, "prompt_length")),
    "numpy_integers": (lambda s, p: s.fit(prompt_length=np.int8(2), rank=np.uint8(1)), None),
    "batch_of_a_million": (lambda s, p: s.fit(batch_size=10**6), None),
    "limit_of_one_token": (lambda s, p: s.fit(max_length=1), None),
    "model_empty": (lambda s, p: s.fit(model=""), (VALUE, "model")),
    "model_missing": (lambda s, p: s.fit(model=p / "none"), (OS, "none")),
    "model_folder_empty": (lambda s, p: s.fit(model=p), (OS, "could not be loaded")),
    "model_file": (lambda s, p: s.fit(model=_closed_file(p)), (OS, "could not be loaded")),
    "model_with_nul": (lambda s, p: s.fit(model="a\0b"), (VALUE, "model must be a path")),
    "encoder_missing": (lambda s, p: s.fit(encoder="none/none"), (OS, "none/none")),
    "unknown_dtype": (lambda s, p: s.fit(model=Backbone("x/y", dtype="int3")), (VALUE, "dtype")),
    "checkpoint_number": (lambda s, p: s.fit(checkpoint_dir=3), (VALUE, "checkpoint_dir")),
    "checkpoint_file": (lambda s, p: s.fit(checkpoint_dir=_closed_file(p)), (OS, "checkpoint_dir")),
    "checkpoint_never": (lambda s, p: s.fit(checkpoint_every=0), (VALUE, "checkpoint_every")),
    "memory_is_a_file": (lambda s, p: s.fit(memory=_closed_file(p)), None),
    # save and load
    "save_to_none": (lambda s, p: s.fitted().save(None), (VALUE, "path")),
    "save_to_a_number": (lambda s, p: s.fitted().save(3), (VALUE, "path")),
    "save_to_bytes": (lambda s, p: s.fitted().save(b"x"), (VALUE, "path")),
    "save_over_a_file": (lambda s, p: s.fitted().save(_closed_file(p)), (OS, "written")),
    "save_below_a_file": (lambda s, p: s.fitted().save(_closed_file(p) / "x"), (OS, "written")),
    "save_to_a_name_too_long": (lambda s, p: s.fitted().save(p / ("x" * 300)), (OS, "written")),
    "save_to_nul": (lambda s, p: s.fitted().save("a\0b"), (VALUE, "path")),
    "save_to_an_emoji": (lambda s, p: s.fitted().save(p / "\U0001f469.zip"), None),
    "save_to_new_folders": (lambda s, p: s.fitted().save(p / "a" / "b" / "c"), None),
    "save_before_fit": (lambda s, p: s.make().save(p / "x"), (VALUE, "not fitted")),
    "push_before_fit": (lambda s, p: s.make().push_to_hub("a/b"), (VALUE, "not fitted")),
    "load_none": (lambda s, p: sklopa.load(None), (VALUE, "path")),
    "load_a_number": (lambda s, p: sklopa.load(3), (VALUE, "path")),
    "load_nothing": (lambda s, p: sklopa.load(p / "x.zip"), (OS, "no archive")),
    "load_an_empty_folder": (lambda s, p: sklopa.load(p), (VALUE, "manifest.json is missing")),
    "load_a_text_file": (lambda s, p: sklopa.load(_closed_file(p)), (VALUE, "zip")),
    "load_an_empty_name": (lambda s, p: sklopa.load(""), (VALUE, "path")),
    "load_nul": (lambda s, p: sklopa.load("a\0b"), (VALUE, "path")),
    "load_a_repository_offline": (lambda s, p: sklopa.load("no/such"), (OS, "'no/such'")),
    "load_with_a_bad_backbone": (lambda s, p: sklopa.load(p, backbone=3), (VALUE, "model")),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_what_happens_is_what_the_row_says(name, row, tmp_path):
    act, error = ROWS[row]
    if error is None:
        result = act(ESTIMATORS[name], tmp_path)
        assert result is None or len(result)
    else:
        with raises(error[0], *error[1:]):
            act(ESTIMATORS[name], tmp_path)


def test_the_catalogue_has_its_rows():
    assert len(ODD_TEXTS) + len(ROWS) >= 80


# ---------------------------------------------------------------- labels of a classifier

LABELS = {
    "floats": ([0.0, 1.0], None),
    "booleans": ([True, False], None),
    "numpy_booleans": (np.array([True, False]), None),
    "dates_of_numpy": (np.array(["2024-01-01", "2024-01-02"], dtype="datetime64[D]"), None),
    "unused_levels": (pd.Categorical(["a", "b"], categories=["z", "b", "a"]), None),
    "negative": ([-1, 1], None),
    "huge": ([2**60, -(2**60)], None),
    "empty_label": (["", "a"], None),
    "emoji_label": (["\U0001f469", "a"], None),
    "unordered": (["b", "a"], None),
    "halves": ([0.5, 1.5], "label type"),
    "mixed": (np.array(["a", 1], dtype=object), "int"),
    "tuples": ([("a", "b"), ("c", "d")], None),  # label sets
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_come_back_as_they_were_given(kind):
    labels, error = LABELS[kind]
    y = list(labels) * 4 if isinstance(labels, list) else labels.take([0, 1] * 4)
    clf = ESTIMATORS["classifier"].make()
    if error is not None:
        with raises(ValueError, error):
            clf.fit(TEXTS, y)
        return
    predicted = clf.fit(TEXTS, y).predict(TEXTS)
    if kind != "tuples":
        assert set(predicted.tolist()) <= set(np.asarray(labels).tolist())
        assert len(clf.classes_) == 2


def test_a_class_seen_in_validation_alone_is_named():
    clf = ESTIMATORS["classifier"].make(early_stopping=True)
    with raises(ValueError, "y_val", "'c'"):
        clf.fit(TEXTS, ["a", "b"] * 4, X_val=["good"], y_val=["c"])
