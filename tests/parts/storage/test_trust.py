"""Restored state holds what is on a list, each by its rule; and nothing that only a caller allows.

The state is what skops, pickle and copies hand over; archives hold the same values in JSON.
"""

import copy
import pickle

import faults
import numpy as np
import pytest
import sklearn
import skops.io
import tiny
import tiny_vision
from helpers import assert_same_state, named, raises, weights_of

import sklopa
from sklopa import (
    Backbone,
    LoPAClassifier,
    LoPAGenerator,
    LoPAImageClassifier,
    LoPARegressor,
)
from sklopa._cache.content import digest_of_config, digest_of_tokenizer
from sklopa._storage.trust import permitted
from sklopa._storage.values import pack, unpack
from sklopa.errors import InvalidArchive

SMALL = faults.SMALL | {"max_iter": 1}
KINDS = ("LoPAClassifier", "LoPARegressor", "LoPAGenerator", "LoPAImageClassifier")


@pytest.fixture(scope="module")
def all_four():
    """A fitted estimator of each kind; tests do not change them."""
    texts, labels = faults.TEXTS, faults.LABELS
    images, sides = tiny_vision.images()
    made = (
        LoPAClassifier(tiny.backbone(), **SMALL).fit(texts, labels),
        LoPARegressor(tiny.backbone(), **SMALL).fit(texts, np.arange(24.0)),
        LoPAGenerator(tiny.backbone("gpt2"), **SMALL, max_new_tokens=3).fit(texts, texts),
        LoPAImageClassifier(tiny_vision.backbone(), **SMALL).fit(images, sides),
    )
    return {type(each).__name__: each for each in made}


@pytest.fixture(params=KINDS)
def fitted(all_four, request):
    return all_four[request.param]


def restored(estimator, **changes):
    """What a file makes that holds the state of an estimator, with some of it forged."""
    made = type(estimator).__new__(type(estimator))
    made.__setstate__(estimator.__getstate__() | changes)
    return made


def forged_design(estimator, **changes):
    return {"_design": estimator.__getstate__()["_design"] | changes}


def test_state_comes_back_as_it_was(fitted):
    other = restored(fitted)
    assert_same_state(other, fitted)
    assert other.get_params() == fitted.get_params()


UNKNOWN = ["_n_views", "_rules", "_doc_link_template", "fit", "__class__", "_memory_folder", "x_"]


@pytest.mark.parametrize("name", UNKNOWN)
def test_names_that_are_not_on_the_list_are_refused(fitted, name):
    with raises(ValueError, repr(name), "Nothing of it was used"):
        restored(fitted, **{name: 10**7})


FORGED = {
    "n_iter_": "1", "loss_curve_": [float("nan")], "history_": [{"epoch": "x"}], "dtype_": 3,
    "n_features_in_": -1, "feature_names_in_": np.array(["a", "b", "c"]), "batch_size": 0,
    "prompt_length": "3", "gate": "x", "model": 3, "_weights": {"head.bias": "x"}, "_design": {},
    "_requests": {"fit": {"sample_weight": ["x"]}}, "_sklearn_output_config": {"transform": "<b>"},
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_values_that_break_a_rule_are_refused(fitted, name):
    with pytest.raises(InvalidArchive):
        restored(fitted, **{name: FORGED[name]})


def test_every_fitted_attribute_that_must_be_there_is_asked_for(fitted):
    state = fitted.__getstate__()
    schema = type(fitted)._schema()
    for name in set(schema.attributes) - schema.optional:
        rest = {key: value for key, value in state.items() if key != name}
        with raises(ValueError, name):
            type(fitted).__new__(type(fitted)).__setstate__(rest)


@pytest.mark.parametrize(
    "changes",
    [
        {"_target_mean": "x"}, {"n_outputs_": "x"}, {"n_outputs_": 2}, {"_target_mean": np.ones(2)},
        {"_target_scale": np.ones((1, 1))}, {"_target_scale": np.zeros(1)},
        {"_target_scale": np.array([np.inf])},
    ],
    ids=named,
)  # fmt: skip
def test_a_forged_regressor_is_refused(all_four, changes):
    with pytest.raises(InvalidArchive):
        restored(all_four["LoPARegressor"], **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"n_views": 10**9}, {"n_views": 0}, {"bottleneck": 10**9}, {"rank": 10**9},
        {"prompt_length": 10**9}, {"n_outputs": 10**9}, {"n_outputs": -1}, {"reserved": -1},
        {"pairs": "x"}, {"word_ids": (0,) * 99}, {"word_ids": ("a", "b")},
        {"special_texts": (1,)}, {"special_texts": ("",)}, {"special_texts": 3},
        {"template": {"pattern": "{text.__class__}"}},
        {"template": {"pattern": 3}}, {"hook": 1}, {"backbone": "org/model"},
    ],
    ids=named,
)  # fmt: skip
def test_a_forged_design_is_refused(fitted, changes):
    with pytest.raises(InvalidArchive):
        restored(fitted, **forged_design(fitted, **changes))


# ---------------------------------------------------------------- what only the caller allows


def unfitted(kind, **options):
    return getattr(sklopa, kind)(**options)


@pytest.mark.parametrize("kind", KINDS)
def test_folders_and_code_of_a_model_never_come_from_state(kind, tmp_path):
    clf = unfitted(
        kind, model=Backbone("org/model", trust_remote_code=True), encoder=Backbone("org/other"),
        memory=str(tmp_path / "m"), checkpoint_dir=str(tmp_path / "c"),
    )  # fmt: skip
    loaded = skops.io.loads(skops.io.dumps(clf), trusted=[f"sklopa.{kind}", "sklopa.Backbone"])
    assert (loaded.memory, loaded.checkpoint_dir) == (None, None)
    assert loaded.model == Backbone("org/model")
    assert loaded.encoder == Backbone("org/other")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
@pytest.mark.parametrize("kind", KINDS)
def test_what_runs_in_this_process_keeps_what_its_caller_allowed(kind, copied):
    model = Backbone("org/model", trust_remote_code=True, attn_implementation="org/kernel")
    clf = unfitted(kind, model=model, memory="m", rank=-1)
    clf.note = [clf]  # whatever a user hangs on it
    other = copied(clf)
    assert other.get_params() == clf.get_params()
    assert other.note[0] is (clf if copied is copy.copy else other)


@pytest.mark.parametrize(
    "changes",
    [
        {"attn_implementation": "somebody/repository"}, {"attn_implementation": "paged|sdpa"},
        {"attn_implementation": ["sdpa"]}, {"model": None}, {"objects": (1, 2)},
        {"device_map": {"": "disk"}}, {"quantization_config": object()}, {"revision": 3},
    ],
    ids=named,
)  # fmt: skip
def test_a_description_from_a_file_asks_for_nothing_that_is_fetched_or_written(changes):
    made = Backbone.__new__(Backbone)
    with raises(ValueError, next(iter(changes)), "Backbone(...)"):
        made.__setstate__({"model": "org/model"} | changes)


@pytest.mark.parametrize("attention", [None, "eager", "sdpa", "flash_attention_2"])
def test_a_description_comes_back_with_any_attention_that_is_listed(attention):
    backbone = Backbone("org/model", attn_implementation=attention, dtype="float16")
    made = Backbone.__new__(Backbone)
    made.__setstate__(dict(vars(backbone)))
    assert made == backbone
    assert type(backbone.__reduce__()[2]) is dict


def test_code_of_a_model_is_allowed_again_with_the_parameter(all_four):
    network = all_four["LoPAClassifier"]._fitted_network()
    design = copy.copy(network.design)
    for name in ("backbone", "encoder"):
        object.__setattr__(design, name, Backbone("org/model"))
    network = type(network)(design, network.weights)
    again = Backbone("org/model", trust_remote_code=True)
    assert permitted(network, again, None).design.backbone.trust_remote_code
    assert permitted(network, again, None).design.encoder.trust_remote_code
    for other in ("org/model", Backbone("org/another", trust_remote_code=True), None):
        assert permitted(network, other, None) is network


@pytest.mark.parametrize("where", ["design", "parameter"])
def test_attention_that_is_fetched_is_refused_in_an_archive(tmp_path, where):
    def change(manifest, tensors):
        fine = dict(manifest["design"]["$design"]["backbone"]["$backbone"], model="org/model")
        odd = fine | {"attn_implementation": "somebody/repository"}
        manifest["parameters"]["model"] = {"$backbone": odd}
        used = odd if where == "design" else fine
        manifest["design"]["$design"] |= {
            "backbone": {"$backbone": used}, "encoder": {"$backbone": used},
        }  # fmt: skip

    with raises(ValueError, "somebody/repository", "attn_implementation", "load(path, backbone="):
        sklopa.load(faults.sealed(tmp_path, "forged", change))


# ---------------------------------------------------------------- what scikit-learn keeps


@pytest.mark.parametrize("way", ["archive", "pickle", "state"])
def test_metadata_requests_survive(all_four, tmp_path, way):
    for kind, estimator in all_four.items():
        with sklearn.config_context(enable_metadata_routing=True):
            asked = copy.copy(estimator).set_fit_request(sample_weight=True, X_val="mine")
            if way == "archive":
                asked.save(tmp_path / f"{kind}.zip")
                loaded = sklopa.load(tmp_path / f"{kind}.zip", backbone=estimator.model)
            elif way == "pickle":
                asked.model = "org/model"
                asked.__dict__.pop("_network")  # live objects are in no pickle
                loaded = pickle.loads(pickle.dumps(asked))
            else:
                loaded = restored(asked)
            found = loaded.get_metadata_routing().fit.requests
        assert (found["sample_weight"], found["X_val"]) == (True, "mine")


def test_callbacks_are_left_out_of_an_archive(all_four, tmp_path):
    clf = copy.copy(all_four["LoPAClassifier"])
    clf._skl_callbacks = [object()]
    clf.set_output(transform="pandas")
    clf.save(tmp_path / "clf.zip")
    loaded = sklopa.load(tmp_path / "clf.zip", backbone=clf.model)
    assert not hasattr(loaded, "_skl_callbacks")
    assert loaded._sklearn_output_config == {"transform": "pandas"}


# ---------------------------------------------------------------- single values


@pytest.mark.parametrize("position", [-1, 625, 2**30, 1.0, True])
def test_a_generator_with_a_position_outside_of_its_words_is_refused(position):
    name, words, _, has_spare, spare = np.random.RandomState(0).get_state()
    packed = {"$random_state": pack((name, words, position, has_spare, spare), {})}
    with raises(ValueError, "random_state"):
        unpack(packed, {})


def test_a_generator_in_state_is_checked_too(fitted):
    generator = np.random.RandomState(0)
    assert restored(fitted, random_state=generator).random_state is generator
    name, words, _, *spare = generator.get_state()
    generator.set_state((name, words, 2**30, *spare))  # numpy takes it
    with raises(ValueError, "random_state"):
        restored(fitted, random_state=generator)


def test_reading_a_value_makes_no_folder(tmp_path):
    assert unpack({"$memory": str(tmp_path / "made")}, {}) is None
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("label", [object(), {"a": 1}, [1], Backbone("org/model")], ids=named)
def test_labels_are_texts_numbers_dates_and_bytes(all_four, label):
    classes = np.array([None, None], dtype=object)
    classes[0], classes[1] = "a", label
    with raises(ValueError, "classes_"):
        restored(all_four["LoPAClassifier"], classes_=classes)


# ---------------------------------------------------------------- what save refuses


NUMPY = {
    "rank": np.int64(1), "prompt_length": np.int32(3), "bottleneck": np.int64(8),
    "dropout": np.float64(0.1), "train_encoder": np.bool_(False), "gate": np.str_("add"),
    "max_length": np.int64(9), "batch_size": np.int64(4),
}  # fmt: skip


def test_numbers_of_numpy_are_saved_as_those_of_python(tmp_path):
    clf = LoPAClassifier(tiny.backbone(), **SMALL | NUMPY).fit(faults.TEXTS, faults.LABELS)
    clf.save(tmp_path / "clf.zip")
    loaded = sklopa.load(tmp_path / "clf.zip", backbone=clf.model)
    for name, value in NUMPY.items():
        found = getattr(loaded, name)
        assert found == value
        assert type(found) is type(value.item())
    np.testing.assert_array_equal(weights_of(loaded)["head.bias"], weights_of(clf)["head.bias"])


@pytest.mark.parametrize(
    ("name", "value"), [("batch_size", 0), ("n_iter_", "x"), ("history_", 3), ("rank", 99)]
)
def test_save_refuses_what_load_would(fitted, tmp_path, name, value):
    other = copy.copy(fitted)
    setattr(other, name, value)
    with raises(ValueError, name):
        other.save(tmp_path / "x.zip")
    assert not list(tmp_path.iterdir())


def test_a_class_of_the_users_own_is_refused_before_anything_is_written(fitted, tmp_path):
    own = type("Mine", (type(fitted),), {"__module__": "mine"})
    other = own.__new__(own)
    other.__dict__.update(vars(fitted))
    with raises(ValueError, "Mine", "joblib.dump"):
        other.save(tmp_path / "x.zip")
    assert not list(tmp_path.iterdir())
    assert restored(other, note_="kept").note_ == "kept"
    with raises(ValueError, "_n_views"):
        restored(other, _n_views=10**7)


# ---------------------------------------------------------------- digests


def test_a_configuration_is_told_by_what_is_computed():
    config = tiny.model("bert")[0].config.to_dict()
    same = digest_of_config(config)
    assert digest_of_config(config | {"_name_or_path": "elsewhere", "dtype": "float16"}) == same
    for name, value in (("hidden_act", "relu"), ("layer_norm_eps", 0.1)):
        assert digest_of_config(config | {name: value}) != same


def test_a_tokenizer_is_told_by_the_ids_that_it_makes():
    tokenizer = tiny.model("bert")[1]
    same = digest_of_tokenizer(tokenizer)
    tokenizer(["a text"], truncation=True, max_length=4, padding=True)
    assert digest_of_tokenizer(tokenizer) == same
    tokenizer.truncation_side = "left"
    assert digest_of_tokenizer(tokenizer) != same
    other = tiny.model("bert")[1]
    other.backend_tokenizer.post_processor = _no_special_tokens()
    assert digest_of_tokenizer(other) != same


def _no_special_tokens():
    from tokenizers.processors import TemplateProcessing

    return TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
