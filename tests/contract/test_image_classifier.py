"""`LoPAImageClassifier` keeps the promises of the text estimators."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import tiny_vision
import torch
from helpers import CLOSE, assert_same_state, raises, weights_of
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklopa import (
    Backbone,
    LoPAClassifier,
    LoPAGenerator,
    LoPAImageClassifier,
    cache_clear,
    cache_info,
    load,
)
from sklopa._backbone.vision import FrozenVisionTower
from sklopa.errors import BatchSizeWarning

IMAGES, LABELS = tiny_vision.images()
P = 3
METHODS = ["predict", "predict_proba", "decision_function", "transform", "generate_prompts"]
KINDS = {
    "lopa": {},
    "lopa_deep": {"depth": "deep"},
    "vpt": {"rank": 0},
    "vpt_deep": {"rank": 0, "depth": "deep"},
    "linear_probe": {"prompt_length": 0, "learning_rate": 1e-2},
    "concat": {"gate": "concat"},
    "instance_deep": {"gate": "instance", "depth": "deep"},
    "train_encoder": {"train_encoder": True},
    "early_stopping": {"early_stopping": True, "validation_fraction": 0.3},
}


def make(model=None, **options):
    options = {
        "prompt_length": P, "rank": 2, "bottleneck": 8, "max_iter": 3, "batch_size": 8,
        "random_state": 0,
    } | options  # fmt: skip
    return LoPAImageClassifier(model or tiny_vision.backbone(), **options)


@pytest.fixture(scope="module")
def fitted():
    """A fitted classifier to read from; tests do not change it."""
    return make(max_iter=10).fit(IMAGES, LABELS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_vision.save(tmp_path_factory.mktemp("tiny-vit"))


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_and_answers_in_the_shapes_of_the_contract(kind):
    model = make(**({"max_iter": 40, "learning_rate": 3e-3} | KINDS[kind])).fit(IMAGES, LABELS)
    n = len(IMAGES)
    # A probe has only what the model sees anyway, and rows that are held out are not learnt.
    assert model.score(IMAGES, LABELS) > (
        0.75 if kind in ("linear_probe", "early_stopping") else 0.9
    )
    assert model.classes_.tolist() == ["lying", "standing"]
    probabilities = model.predict_proba(IMAGES)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(model.classes_[probabilities.argmax(1)], model.predict(IMAGES))
    assert model.decision_function(IMAGES).shape == (n,)
    assert model.transform(IMAGES).shape == (n, tiny_vision.WIDTH)
    assert model.get_feature_names_out()[0] == "lopaimageclassifier0"
    n_rows = {"concat": 2 * P, "linear_probe": 0}.get(kind, P)
    layers = (tiny_vision.LAYERS,) if "deep" in kind else ()
    assert model.generate_prompts(IMAGES).shape == (n, *layers, n_rows, tiny_vision.WIDTH)
    assert (model.n_features_in_, model.n_truncated_) == (1, 0)


def test_prompts_depend_on_the_image_where_rank_is_above_zero(fitted):
    prompts = fitted.generate_prompts(IMAGES[:2])
    assert np.abs(prompts[0] - prompts[1]).max() > 1e-4
    prompts = make(rank=0).fit(IMAGES, LABELS).generate_prompts(IMAGES[:2])
    np.testing.assert_array_equal(prompts[0], prompts[1])


def test_heads_read_the_quarters_of_images_beside_their_embedding(fitted):
    beside = 5 * tiny_vision.WIDTH  # the class token and four quarters
    assert weights_of(fitted)["head.weight"].shape == (2, tiny_vision.WIDTH + beside)
    probe = make(prompt_length=0).fit(IMAGES, LABELS)
    assert weights_of(probe)["head.weight"].shape == (2, beside)
    vpt = make(rank=0).fit(IMAGES, LABELS)  # as published
    assert weights_of(vpt)["head.weight"].shape == (2, tiny_vision.WIDTH)


def test_what_was_fitted_when_heads_read_one_view_runs_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(LoPAImageClassifier, "_n_views", 1)
    clf = make(tiny_vision.save(tmp_path / "vit"), warm_start=True).fit(IMAGES, LABELS)
    clf.save(tmp_path / "m.zip")
    monkeypatch.undo()
    again = load(tmp_path / "m.zip")
    np.testing.assert_allclose(again.predict_proba(IMAGES), clf.predict_proba(IMAGES), atol=1e-6)
    shape = (2, 2 * tiny_vision.WIDTH)
    assert weights_of(again.fit(IMAGES, LABELS))["head.weight"].shape == shape


def test_a_refit_and_a_clone_have_the_same_bits(fitted):
    assert_same_state(clone(fitted).fit(IMAGES, LABELS), fitted)


@pytest.mark.parametrize("form", ["files", "pil", "floats"])
def test_files_pictures_and_floats_give_what_arrays_give(fitted, form, tmp_path):
    X = {"pil": [Image.fromarray(image) for image in IMAGES], "floats": IMAGES / 255}.get(form)
    if form == "files":
        X = [tmp_path / f"{i}.png" for i in range(len(IMAGES))]
        for path, image in zip(X, IMAGES, strict=True):
            Image.fromarray(image).save(path)
    np.testing.assert_allclose(fitted.predict_proba(X), fitted.predict_proba(IMAGES), atol=1e-6)
    assert_same_state(clone(fitted).fit(X, LABELS), fitted)


def test_a_row_does_not_depend_on_neighbours_order_or_batch_size(fitted):
    logits = fitted.decision_function(IMAGES)
    order = np.random.RandomState(0).permutation(len(IMAGES))
    np.testing.assert_allclose(fitted.decision_function(IMAGES[order]), logits[order], **CLOSE)
    alone = [fitted.decision_function(IMAGES[i : i + 1])[0] for i in range(4)]
    np.testing.assert_allclose(alone, logits[:4], **CLOSE)
    other = clone(fitted).fit(IMAGES, LABELS).set_params(batch_size=3)
    np.testing.assert_allclose(other.decision_function(IMAGES), logits, **CLOSE)


def test_a_pickle_is_small_and_predicts_the_same_in_a_new_process(folder, tmp_path):
    model = make(folder, depth="deep").fit(IMAGES, LABELS)
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(model))
    assert path.stat().st_size < 2 * 4 * model.n_trainable_parameters_ + 100_000
    np.save(tmp_path / "x.npy", IMAGES)
    code = (
        "import pickle, sys, numpy as np; from pathlib import Path; folder = Path(sys.argv[1]);"
        "model = pickle.loads((folder / 'model.pkl').read_bytes());"
        "np.save(folder / 'out.npy', model.predict_proba(np.load(folder / 'x.npy')))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    np.testing.assert_allclose(
        np.load(tmp_path / "out.npy"), model.predict_proba(IMAGES), atol=1e-6
    )


def test_a_search_embeds_each_image_once():
    cache_clear()
    grid = {"depth": ["shallow", "deep"], "rank": [0, 2], "prompt_length": [2, 3]}
    search = GridSearchCV(make(max_iter=1), grid, cv=2).fit(IMAGES, LABELS)
    assert cache_info().misses == len(IMAGES)
    assert search.predict(IMAGES).shape == (len(IMAGES),)


def test_memory_keeps_embeddings_for_later_processes(folder, tmp_path):
    model = make(folder, memory=tmp_path / "memory")
    expected = model.fit(IMAGES, LABELS).decision_function(IMAGES)
    cache_clear()
    again = clone(model).fit(IMAGES, LABELS)
    assert cache_info().misses == 0
    np.testing.assert_array_equal(again.decision_function(IMAGES), expected)


def test_another_encoder_makes_the_embedding_with_its_own_processor(folder):
    model = make(encoder=Backbone(folder)).fit(IMAGES, LABELS)
    other = make(encoder=tiny_vision.backbone("dinov2")).fit(IMAGES, LABELS)
    assert model.decision_function(IMAGES).shape == other.decision_function(IMAGES).shape
    assert np.abs(model.generate_prompts(IMAGES) - other.generate_prompts(IMAGES)).max() > 1e-4


def test_behind_a_random_augmentation_in_a_pipeline():
    random = np.random.RandomState(0)

    def augment(X):
        return np.stack([np.roll(image, random.randint(-1, 2), axis=0) for image in X])

    pipe = make_pipeline(FunctionTransformer(augment), make()).fit(IMAGES, LABELS)
    assert pipe.predict(IMAGES).shape == (len(IMAGES),)


def test_several_labels_an_image_weights_warm_start_and_partial_fit():
    sets = [{label, "bar"} for label in LABELS]
    model = make().fit(IMAGES, sets)
    assert model.predict(IMAGES).shape == (len(IMAGES), 3)
    weights = np.ones(len(IMAGES))
    weights[:4] = 0
    left_out = make().fit(IMAGES, LABELS, sample_weight=weights)
    assert_same_state(left_out, make().fit(IMAGES[4:], LABELS[4:]))
    warm = make(warm_start=True).fit(IMAGES, LABELS)
    assert warm.fit(IMAGES, LABELS).n_iter_ == 6
    parts = make().partial_fit(IMAGES[:9], LABELS[:9], classes=["lying", "standing"])
    assert parts.partial_fit(IMAGES[9:], LABELS[9:]).n_iter_ == 2


def test_rows_to_watch_may_be_given():
    model = make(early_stopping=True).fit(IMAGES, LABELS, X_val=IMAGES[:8], y_val=LABELS[:8])
    assert len(model.validation_scores_) == model.n_iter_


@pytest.mark.parametrize("method", METHODS)
def test_methods_before_fit_say_that_fit_comes_first(method):
    with raises(NotFittedError, "LoPAImageClassifier", "fit"):
        getattr(make(), method)(IMAGES)


def test_wrong_parameters_and_targets_are_named():
    with raises(ValueError, "LoPAImageClassifier", "rank", "depth", "'deeper'"):
        make(rank=-1, depth="deeper").fit(IMAGES, LABELS)
    with raises(ValueError, "rank must be at most prompt_length"):
        make(rank=P + 1).fit(IMAGES, LABELS)
    with raises(ValueError, "rank must be at most 32"):
        make(rank=40, prompt_length=50).fit(IMAGES, LABELS)
    with raises(ValueError, "X has 24 rows and y has 23"):
        make().fit(IMAGES, LABELS[:-1])
    with raises(ValueError, "one class"):
        make().fit(IMAGES, ["a"] * len(IMAGES))


def test_the_default_model_is_not_found_offline_with_the_next_step(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    clf = LoPAImageClassifier(Backbone(LoPAImageClassifier().model, local_files_only=True))
    parts = ("google/vit-base-patch16-224-in21k", "save_pretrained", "examples/small_vit.py")
    with raises(OSError, *parts):
        clf.fit(IMAGES, LABELS)
    with raises(OSError, *parts):
        clf.partial_fit(IMAGES, LABELS, classes=["lying", "standing"])


def test_models_of_the_other_kind_are_refused_by_name():
    vision, text = tiny_vision.backbone(), tiny.backbone()
    with raises(ValueError, "bert", "reads texts", "LoPAImageClassifier", "reads images"):
        make(text).fit(IMAGES, LABELS)
    with raises(ValueError, "bert", "reads texts"):
        make(encoder=text).fit(IMAGES, LABELS)
    for options in ({}, {"head": "verbalizer"}):
        with raises(ValueError, "vit", "reads images"):
            LoPAClassifier(vision, **options).fit(["a", "b"], [0, 1])
    with raises(ValueError, "vit", "reads images"):
        LoPAClassifier(text, encoder=vision).fit(["a", "b"], [0, 1])
    with raises(ValueError, "vit", "reads images"):
        LoPAGenerator(vision).fit(["a", "b"], ["c", "d"])


def test_a_folder_without_an_image_processor_is_not_found(tmp_path):
    tiny_vision.save(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with raises(OSError, str(tmp_path), "could not be loaded"):
        make(str(tmp_path)).fit(IMAGES, LABELS)


def test_a_processor_that_needs_a_missing_package_names_it(monkeypatch, tmp_path):
    import transformers

    def fail(*args, **kwargs):
        raise ImportError("SomeImageProcessor requires the torchvision library")

    monkeypatch.setattr(transformers.AutoImageProcessor, "from_pretrained", fail)
    with raises(ImportError, str(Path(tmp_path)), "torchvision", "pip install", "from_objects"):
        make(tiny_vision.save(tmp_path)).fit(IMAGES, LABELS)


def test_lack_of_memory_halves_the_batch(monkeypatch, fitted):
    expected = fitted.decision_function(IMAGES)
    states = FrozenVisionTower.states_behind

    def run(self, prompt, pixels):
        if len(pixels) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return states(self, prompt, pixels)

    monkeypatch.setattr(FrozenVisionTower, "states_behind", run)
    with pytest.warns(BatchSizeWarning, match="Memory ran out"):
        found = fitted.decision_function(IMAGES)
    np.testing.assert_allclose(found, expected, **CLOSE)
    monkeypatch.setattr(FrozenVisionTower, "states_behind", lambda *a: run(a[0], a[1], IMAGES))
    with pytest.warns(BatchSizeWarning), raises(MemoryError, "single row", "backbone") as caught:
        fitted.decision_function(IMAGES)
    assert "max_length" not in str(caught.value)


def test_inputs_and_the_global_generator_are_left_as_found():
    state, kept = torch.get_rng_state(), IMAGES.copy()
    make().fit(IMAGES, LABELS).predict(IMAGES)
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(IMAGES, kept)


def test_a_trained_encoder_is_float32_beside_a_model_in_half_precision(folder, tiny_folder):
    model = make(Backbone(folder, dtype="bfloat16"), train_encoder=True).fit(IMAGES, LABELS)
    assert np.isfinite(model.decision_function(IMAGES)).all()
    texts = LoPAClassifier(
        Backbone(tiny_folder, dtype="bfloat16"), prompt_length=P, rank=2, train_encoder=True,
        max_iter=1, random_state=0,
    )  # fmt: skip
    assert np.isfinite(texts.fit(["good", "bad"], [1, 0]).decision_function(["good"])).all()
