"""Every row of the contract's table of errors: the class, and a text that says what to do."""

import json
import warnings
from contextlib import contextmanager

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
import tiny
import torch
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from sklopa import Backbone, LoPAClassifier
from sklopa._frozen import FrozenModel
from sklopa._training import Trainer
from sklopa.errors import BatchSizeWarning, SklopaError, TruncationWarning

LABELS = ["a", "b", "a"]


@contextmanager
def raises(builtin, *parts):
    """A `SklopaError` that is also the builtin a caller would catch, and names `parts`."""
    with pytest.raises(SklopaError) as caught:
        yield caught
    assert isinstance(caught.value, builtin)
    text = str(caught.value)
    assert not [part for part in parts if part not in text], text
    assert "np." not in text  # numbers and texts are shown as users write them


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

TEXTS = ["good film", "bad film", "fine film"]
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


@pytest.mark.parametrize("class_weight", [{"a": -1.0, "b": 1.0}, {"a": "x", "b": 1.0}], ids=str)
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


# ---------------------------------------------------------------- parameters

BAD_PARAMETERS = [
    ("prompt_length", -1, "an integer >= 0"),
    ("prompt_length", 2.0, "an integer >= 0"),
    ("prompt_length", True, "an integer >= 0"),
    ("prompt_length", None, "an integer >= 0"),
    ("rank", -1, "an integer >= 0"),
    ("rank", "4", "an integer >= 0"),
    ("gate", "tanh", "'sigmoid', 'add', 'max', 'concat', 'instance'"),
    ("gate", None, "'sigmoid', 'add', 'max', 'concat', 'instance'"),
    ("gate", ["add"], "'sigmoid', 'add', 'max', 'concat', 'instance'"),
    ("memory", 3, "a path or a joblib.Memory or None"),
    ("bottleneck", 0, "an integer >= 1"),
    ("dropout", 1.0, "a number in [0, 1)"),
    ("dropout", -0.1, "a number in [0, 1)"),
    ("dropout", float("nan"), "a number in [0, 1)"),
    ("train_encoder", 1, "True or False"),
    ("head", "mlp", "'linear', 'verbalizer'"),
    ("template", 3, "a text"),
    ("verbalizer", ["good", "bad"], "{label: word}"),
    ("max_length", 0, "an integer >= 1 or None"),
    ("max_iter", 0, "an integer >= 1"),
    ("batch_size", 0, "an integer >= 1"),
    ("batch_size", "auto", "an integer >= 1"),
    ("learning_rate", 0.0, "a number in (0, "),
    ("learning_rate", float("inf"), "a number in (0, "),
    ("learning_rate", "adaptive", "a number in (0, "),
    ("weight_decay", -1e-3, "a number in [0, "),
    ("early_stopping", "yes", "True or False"),
    ("validation_fraction", 0.0, "a number in (0, 1)"),
    ("validation_fraction", 1.0, "a number in (0, 1)"),
    ("n_iter_no_change", 0, "an integer >= 1"),
    ("tol", -1.0, "a number in [0, "),
    ("class_weight", "uniform", "'balanced'"),
    ("class_weight", [1, 2], "'balanced'"),
    ("warm_start", "no", "True or False"),
    ("nulls", "drop", "'error', 'empty'"),
    ("random_state", -1, "an integer >= 0"),
    ("random_state", "seed", "an integer >= 0"),
    ("verbose", -1, "an integer >= 0"),
    ("model", 3, "a path or a Backbone"),
    ("model", None, "a path or a Backbone"),
    ("encoder", 3, "a path or a Backbone or None"),
]


@pytest.mark.parametrize(("name", "value", "allowed"), BAD_PARAMETERS, ids=lambda v: repr(v)[:20])
def test_a_bad_parameter_is_named_with_class_allowed_and_given(
    make_classifier, name, value, allowed
):
    clf = make_classifier(**{name: value})  # says nothing before fit
    for fit in (clf.fit, clf.partial_fit):
        with raises(
            ValueError, "LoPAClassifier", f"parameter {name} must be", allowed, repr(value)
        ):
            fit(TEXTS, LABELS)


def test_every_parameter_has_a_case():
    assert {name for name, _, _ in BAD_PARAMETERS} == set(LoPAClassifier().get_params())


def test_all_bad_parameters_are_reported_at_once(make_classifier):
    with raises(ValueError, "parameter rank", "parameter gate", "parameter tol"):
        make_classifier(rank=-1, gate="none", tol=None).fit(TEXTS, LABELS)


def test_rank_above_prompt_length_is_refused(make_classifier):
    with raises(ValueError, "LoPAClassifier", "rank", "prompt_length", "rank=5", "prompt_length=4"):
        make_classifier(rank=5, prompt_length=4).fit(TEXTS, LABELS)


def test_rank_above_the_width_of_the_backbone_is_refused(make_classifier):
    with raises(ValueError, "LoPAClassifier", "rank", f"at most {tiny.WIDTH}", "got 33"):
        make_classifier(rank=33, prompt_length=40).fit(TEXTS, LABELS)


@pytest.mark.parametrize(
    ("options", "taken"),
    [({"prompt_length": 94}, "94"), ({"prompt_length": 47, "gate": "concat"}, "94")],
)
def test_a_prompt_that_leaves_no_room_for_text_is_refused(make_classifier, options, taken):
    with raises(ValueError, "LoPAClassifier", "prompt_length", f"{tiny.POSITIONS}", taken):
        make_classifier(**options).fit(TEXTS, LABELS)


def test_a_prompt_that_leaves_room_for_one_token_is_allowed(make_classifier):
    clf = make_classifier(prompt_length=tiny.POSITIONS - 3, max_iter=1)
    with pytest.warns(TruncationWarning, match="3 of 3 texts are longer than the limit of 3"):
        assert clf.fit(TEXTS, LABELS).n_truncated_ == 3


def test_room_for_a_pair_is_one_token_more(make_classifier):
    with raises(ValueError, "prompt_length"):
        make_classifier(prompt_length=tiny.POSITIONS - 3).fit([("a", "b"), ("a", "a")], [0, 1])


@pytest.mark.parametrize("max_length", [1, 2])
def test_max_length_that_holds_special_tokens_only_is_allowed(make_classifier, max_length):
    clf = make_classifier(max_length=max_length, max_iter=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        assert np.isfinite(clf.fit(TEXTS, LABELS).decision_function(TEXTS)).all()


def test_gate_instance_without_a_rank_leaves_no_prompt(make_classifier):
    with raises(ValueError, "LoPAClassifier", "gate='instance'", "rank=0"):
        make_classifier(gate="instance", rank=0).fit(TEXTS, LABELS)


# ---------------------------------------------------------------- verbaliser

VERBALIZER = {"head": "verbalizer", "verbalizer": {"a": "good", "b": "bad"}}


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"template": "it was good"}, ["template", "{text}", "{mask}", "'it was good'"]),
        ({"template": "{text} {mask} {other}"}, ["template", "{other}"]),
        ({"template": "{text} {mask} {mask}"}, ["template", "once"]),
        ({"template": "{text {mask}"}, ["template", "{text {mask}"]),
        ({"template": "{text} was {mask} {text_pair}"}, ["template", "{text_pair}"]),
        ({"verbalizer": {"a": "good"}}, ["verbalizer", "'b'"]),
        ({"verbalizer": {"a": "good", "b": "good"}}, ["verbalizer", "'good'", "differ"]),
        ({"verbalizer": {"a": "good", "b": "terrible"}}, ["verbalizer", "'terrible'", "one token"]),
        ({"verbalizer": {"a": "good", "b": ""}}, ["verbalizer", "''"]),
        ({"max_length": 3, "template": "it was {mask} and {text}"}, ["template", "max_length"]),
    ],
)
def test_a_template_or_word_that_cannot_be_read_is_refused(make_classifier, options, parts):
    with raises(ValueError, *parts):
        make_classifier(**(VERBALIZER | options)).fit(TEXTS, LABELS)


def test_a_causal_model_has_no_mask(make_classifier):
    options = VERBALIZER | {"template": "{text} was {mask}", "model": tiny.backbone("gpt2")}
    with raises(ValueError, "template", "causal", "{mask}"):
        make_classifier(**options).fit(TEXTS, LABELS)


def test_a_checkpoint_without_a_language_model_head_cannot_name_labels(make_classifier, tmp_path):
    folder = tiny.save(tmp_path, with_head=False)
    with raises(ValueError, "language-model head", "head='linear'"):
        make_classifier(model=folder, **VERBALIZER).fit(TEXTS, LABELS)


# ---------------------------------------------------------------- backbones


def _change(config, **changes):
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))


def test_a_folder_that_is_not_there_is_not_found(make_classifier, tmp_path):
    folder = str(tmp_path / "no" / "such")
    with raises(OSError, folder, "could not be loaded", "save_pretrained"):
        make_classifier(model=folder).fit(TEXTS, LABELS)


def test_a_hub_id_that_is_not_cached_is_not_found_offline(make_classifier):
    with raises(OSError, "'no-such-org/no-such-model'", "could not be loaded", "download"):
        backbone = Backbone("no-such-org/no-such-model", local_files_only=True)
        make_classifier(model=backbone).fit(TEXTS, LABELS)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "config.json").unlink(),
        lambda folder: (folder / "config.json").write_text("{"),
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / "model.safetensors").write_bytes(b"\0" * 50),
        lambda folder: _change(folder / "config.json", hidden_size=64),
        lambda folder: (folder / "tokenizer.json").unlink(),
        lambda folder: (folder / "tokenizer.json").write_text("{"),
    ],
    ids=[
        "no_config",
        "bad_config",
        "no_weights",
        "bad_weights",
        "other_weights",
        "no_tokenizer",
        "bad_tokenizer",
    ],
)
def test_a_damaged_folder_is_not_found_with_the_reason(make_classifier, tmp_path, damage):
    folder = tiny.save(tmp_path)
    damage(tmp_path)
    with raises(OSError, folder, "could not be loaded"):
        make_classifier(model=folder).fit(TEXTS, LABELS)


def test_a_missing_encoder_is_not_found(make_classifier, tmp_path):
    folder = str(tmp_path / "encoder")
    with raises(OSError, folder):
        make_classifier(encoder=folder).fit(TEXTS, LABELS)


@pytest.mark.parametrize("model_type", ["vit", "whisper", "gemma3n"])
def test_a_family_without_soft_prompts_is_refused_with_reason_and_remedy(
    make_classifier, tmp_path, model_type
):
    folder = tiny.save(tmp_path)
    _change(tmp_path / "config.json", model_type=model_type)
    with raises(ValueError, folder, f"{model_type!r} model", "Families that work", "bert"):
        make_classifier(model=folder).fit(TEXTS, LABELS)


@pytest.mark.parametrize("model", [3, None, "", object()], ids=repr)
def test_a_description_of_no_model_is_refused(model):
    with raises(ValueError, "Backbone", "hub id", "folder", "from_objects"):
        Backbone(model)


# ---------------------------------------------------------------- not fitted


@pytest.mark.parametrize(
    "method",
    ["predict", "predict_proba", "predict_log_proba", "decision_function", "transform",
     "generate_prompts"],
)  # fmt: skip
def test_methods_before_fit_say_that_fit_comes_first(make_classifier, method):
    with raises(NotFittedError, "LoPAClassifier", "fit") as caught:
        getattr(make_classifier(), method)(TEXTS)
    assert isinstance(caught.value, (ValueError, AttributeError))


def test_score_and_feature_names_before_fit_say_that_fit_comes_first(make_classifier):
    with pytest.raises(NotFittedError):
        make_classifier().score(TEXTS, LABELS)
    with pytest.raises(NotFittedError):
        make_classifier().get_feature_names_out()
    with pytest.raises(NotFittedError):
        check_is_fitted(make_classifier())


def test_check_is_fitted_accepts_a_fitted_one(fitted):
    check_is_fitted(fitted)


# ---------------------------------------------------------------- training that fails


def diverge(monkeypatch, in_epoch):
    """Let the loss be NaN in some epoch."""
    epoch, n = Trainer.epoch, iter(range(1, 100))

    def run(self, *args, **kwargs):
        loss = epoch(self, *args, **kwargs)
        return float("nan") if next(n) == in_epoch else loss

    monkeypatch.setattr(Trainer, "epoch", run)


def test_a_loss_that_is_not_finite_restores_the_state_before(monkeypatch, make_classifier):
    states, keep = [], Trainer._keep

    def watch(self, *args):
        states.append({k: v.clone().numpy() for k, v in self.network.state_dict().items()})
        return keep(self, *args)

    monkeypatch.setattr(Trainer, "_keep", watch)
    diverge(monkeypatch, in_epoch=3)
    clf = make_classifier(max_iter=5)
    with raises(ValueError, "not finite in epoch 3", "learning_rate", "0.001", "keeps the state"):
        clf.fit(TEXTS, LABELS)
    assert clf.n_iter_ == 2
    assert len(states) == 2
    for name, value in clf._weights.items():
        np.testing.assert_array_equal(value, states[-1][name])
    assert np.isfinite(clf.decision_function(TEXTS)).all()


def test_a_loss_that_is_not_finite_at_once_leaves_the_estimator_unfitted(
    monkeypatch, make_classifier
):
    clf = make_classifier().fit(TEXTS, LABELS)
    diverge(monkeypatch, in_epoch=1)
    with raises(ValueError, "not finite in epoch 1", "not fitted"):
        clf.fit(TEXTS, LABELS)
    with pytest.raises(NotFittedError):
        clf.predict(TEXTS)


def test_a_loss_that_overflows_is_a_failed_fit(make_classifier):
    clf = make_classifier(learning_rate=1e36, max_iter=5)
    with raises(ValueError, "not finite", "1e+36"):
        clf.fit(TEXTS * 8, LABELS * 8)


def test_a_backbone_that_returns_nan_is_a_failed_fit(make_classifier):
    model, tokenizer = tiny.model("bert")
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(float("nan"))
    clf = make_classifier(model=Backbone.from_objects(model, tokenizer))
    with raises(ValueError, "finite"):
        clf.fit(TEXTS, LABELS)
    with pytest.raises(NotFittedError):
        clf.predict(TEXTS)


def test_a_diverged_partial_fit_keeps_the_state_before(monkeypatch, make_classifier):
    clf = make_classifier().fit(TEXTS, LABELS)
    before = clf.decision_function(TEXTS)
    diverge(monkeypatch, in_epoch=1)
    with raises(ValueError, "not finite"):
        clf.partial_fit(TEXTS, LABELS)
    np.testing.assert_array_equal(clf.decision_function(TEXTS), before)


# ---------------------------------------------------------------- out of memory


def limit_memory(monkeypatch, n_rows):
    """Let the backbone run out of memory beyond `n_rows` rows."""
    states = FrozenModel.states

    def run(self, inputs):
        if len(inputs.embeds) > n_rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return states(self, inputs)

    monkeypatch.setattr(FrozenModel, "states", run)


@pytest.mark.parametrize("cached", [True, False], ids=["texts_known", "texts_new"])
def test_fit_that_runs_out_of_memory_goes_on_with_half_the_batch(
    monkeypatch, make_classifier, reviews, cached
):
    texts, labels = reviews
    texts = [text if cached else f"maybe {text}" for text in texts]
    clf = make_classifier(max_iter=2, dropout=0.0)
    expected = clf.fit(reviews[0], labels).decision_function(reviews[0]) if cached else None
    limit_memory(monkeypatch, 3)
    with pytest.warns(BatchSizeWarning, match="Memory ran out; going on with 2 rows at once"):
        clf.fit(texts, labels)
    assert clf.batch_size == 8
    if cached:
        np.testing.assert_allclose(clf.decision_function(texts), expected, atol=2e-3, rtol=0)


def test_predict_that_runs_out_of_memory_goes_on_with_half_the_batch(monkeypatch, fitted, reviews):
    expected = fitted.decision_function(reviews[0])
    limit_memory(monkeypatch, 5)
    with pytest.warns(BatchSizeWarning, match="batch_size=4"):
        got = fitted.decision_function(reviews[0])
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", ["fit", "predict"])
def test_memory_too_small_for_one_row_is_an_error_with_sizes_and_remedies(
    monkeypatch, make_classifier, reviews, method
):
    texts, labels = reviews
    clf = make_classifier(max_iter=1).fit(texts, labels)
    limit_memory(monkeypatch, 0)
    longest = max(len(text.split()) for text in texts) + 2  # with the two special tokens
    with (
        pytest.warns(BatchSizeWarning),
        raises(
            MemoryError, "single row", f"{longest} tokens", "max_length", "backbone", "2.00 GiB"
        ),
    ):
        clf.fit(texts, labels) if method == "fit" else clf.predict(texts)


def test_other_runtime_errors_of_the_device_come_through(monkeypatch, fitted, reviews):
    def run(self, inputs):
        raise RuntimeError("device-side assert triggered")

    monkeypatch.setattr(FrozenModel, "states", run)
    with pytest.raises(RuntimeError, match="device-side assert") as caught:
        fitted.predict(reviews[0])
    assert not isinstance(caught.value, SklopaError)
