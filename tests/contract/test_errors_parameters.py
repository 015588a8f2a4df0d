"""Rows of the table of errors that are about parameters, words and models."""

import json
import warnings

import numpy as np
import pytest
import tiny
from helpers import named, raises

from sklopa import Backbone, LoPAClassifier, LoPAGenerator, LoPARegressor
from sklopa.errors import TruncationWarning

TEXTS = ["good film", "bad film", "fine film"]
LABELS = ["a", "b", "a"]

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
    ("depth", "both", "'shallow', 'deep'"),
    ("memory", 3, "a path or a joblib.Memory or None"),
    ("checkpoint_dir", 3, "a path or None"),
    ("checkpoint_every", 0, "an integer >= 1 or None"),
    ("bottleneck", 0, "an integer >= 1"),
    ("prompt_layer", -1, "an integer >= 0"),
    ("cv", 1, "an integer >= 2 or a splitter of scikit-learn or False"),
    ("cv", True, "or False"),
    ("cv", None, "or False"),
    ("dropout", 1.0, "a number in [0, 1)"),
    ("dropout", -0.1, "a number in [0, 1)"),
    ("dropout", float("nan"), "a number in [0, 1)"),
    ("train_encoder", 1, "True or False"),
    ("head", "mlp", "'linear', 'verbalizer'"),
    ("template", 3, "a text"),
    ("chat_template", "none", "'auto' or None"),
    ("verbalizer", ["good", "bad"], "{label: word}"),
    ("max_length", 0, "an integer >= 1 or None"),
    ("max_iter", 0, "an integer >= 1"),
    ("batch_size", 0, "an integer >= 1"),
    ("batch_size", "auto", "an integer >= 1"),
    ("learning_rate", 0.0, "a number in (0, "),
    ("learning_rate", float("inf"), "a number in (0, "),
    ("learning_rate", "adaptive", "a number in (0, "),
    ("schedule", "cosine", "'linear', 'constant'"),
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
    ("special_tokens", "yes", "True or False"),
    ("initial_text", " ", "a text with words or None"),
    ("random_state", -1, "an integer from 0 to 4294967295"),
    ("random_state", 2**32, "an integer from 0 to 4294967295"),
    ("random_state", "seed", "an integer from 0 to 4294967295"),
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


@pytest.mark.parametrize("model_type", ["resnet", "whisper", "gemma3n"])
def test_a_family_without_soft_prompts_is_refused_with_reason_and_remedy(
    make_classifier, tmp_path, model_type
):
    folder = tiny.save(tmp_path)
    _change(tmp_path / "config.json", model_type=model_type)
    with raises(ValueError, folder, f"{model_type!r} model", "Families that work", "bert"):
        make_classifier(model=folder).fit(TEXTS, LABELS)


@pytest.mark.parametrize("model", [3, None, "", object()], ids=named)
def test_a_description_of_no_model_is_refused(model):
    with raises(ValueError, "Backbone", "hub id", "folder", "from_objects"):
        Backbone(model)


# ---------------------------------------------------------------- what has no effect


IGNORED = {
    "train_encoder": ({"train_encoder": True, "rank": 0}, "train_encoder=True", "rank=0"),
    "train_encoder of a probe": (
        {"train_encoder": True, "prompt_length": 0}, "train_encoder=True", "prompt_length=0",
    ),
    "encoder": ({"encoder": "other", "rank": 0}, "encoder", "rank=0"),
    "checkpoint_every": ({"checkpoint_every": 5}, "checkpoint_every=5", "checkpoint_dir"),
}  # fmt: skip


@pytest.mark.parametrize("case", IGNORED)
def test_a_parameter_that_has_no_effect_beside_another_is_told_of(
    make_classifier, tiny_folder, case
):
    options, *parts = IGNORED[case]
    options = {k: tiny_folder if v == "other" else v for k, v in options.items()}
    with pytest.warns(UserWarning, match="no effect") as caught:
        make_classifier(max_iter=1, **options).fit(TEXTS, LABELS)
    (told,) = [str(w.message) for w in caught if "no effect" in str(w.message)]
    assert all(part in told for part in ["LoPAClassifier", *parts])


def test_beams_have_no_effect_on_texts_that_are_drawn():
    model = LoPAGenerator(
        tiny.backbone("gpt2"), prompt_length=2, rank=1, max_iter=1, max_new_tokens=2,
        num_beams=2, do_sample=True,
    )  # fmt: skip
    with pytest.warns(UserWarning, match=r"num_beams=2 has no effect with do_sample=True"):
        model.fit(TEXTS, TEXTS)


def test_parameters_that_have_an_effect_are_not_told_of(make_classifier, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for options in (
            {},
            {"rank": 0},
            {"prompt_length": 0},
            {"train_encoder": True},
            {"checkpoint_dir": tmp_path, "checkpoint_every": 5},
        ):
            make_classifier(max_iter=1, **options).fit(TEXTS, LABELS)


# ---------------------------------------------------------------- what is left out


@pytest.mark.parametrize(
    ("method", "arguments"),
    [("fit", ()), ("partial_fit", ()), ("score", ()), ("ablate", ()), ("fit_transform", ())],
)
def test_a_method_without_y_names_the_class_that_the_user_has(fitted, method, arguments):
    with raises(ValueError, "LoPAClassifier", "requires y to be passed") as caught:
        getattr(fitted, method)(TEXTS, *arguments)
    assert "Base" not in str(caught.value)


def test_other_estimators_without_y_name_their_class_too():
    with raises(ValueError, "LoPARegressor requires y to be passed"):
        LoPARegressor(tiny.backbone()).fit(TEXTS)
    model = LoPAGenerator(
        tiny.backbone("gpt2"), prompt_length=2, rank=1, max_iter=1, max_new_tokens=2
    )
    with raises(ValueError, "LoPAGenerator requires y to be passed"):
        model.fit(TEXTS)
    model.fit(TEXTS, TEXTS)
    for method in (model.score, model.log_likelihood):
        with raises(ValueError, "LoPAGenerator requires y to be passed"):
            method(TEXTS)


def test_a_beam_search_has_an_end():
    """A file of somebody else's could ask for beams without number, and for all memory with it."""
    with raises(ValueError, "LoPAGenerator", "num_beams", "from 1 to 256", "19030"):
        LoPAGenerator(tiny.backbone("gpt2"), num_beams=19030).fit(["a"], ["b"])
