"""Every family: the prompt enters as real tokens would, and padding never matters."""

import json
from contextlib import contextmanager

import family_checks as checks
import numpy as np
import pytest
import tiny
import torch
from helpers import weights_of

from sklopa import Backbone, LoPAGenerator
from sklopa._backbone.families import FAMILIES, REFUSED
from sklopa._backbone.prompted import with_prompt
from sklopa._loading.live import live_model
from sklopa.errors import UnsupportedBackbone

KNOWN = [name for name in FAMILIES if tiny.is_known(name)]
BY_KIND = {
    kind: [name for name in KNOWN if FAMILIES[name].kind == kind]
    for kind in ("encoder", "decoder", "encoder-decoder")
}
ONE_STACK = BY_KIND["encoder"] + BY_KIND["decoder"]
GENERATING = BY_KIND["decoder"] + BY_KIND["encoder-decoder"]


@pytest.fixture(params=KNOWN)
def frozen(request):
    return live_model(tiny.backbone(request.param))


def of_families(names):
    return pytest.mark.parametrize("frozen", names, indirect=True)


@contextmanager
def skipped_without_a_cache():
    """Some hybrids give no cache to generate from in older versions of transformers."""
    try:
        yield
    except UnsupportedBackbone as error:
        pytest.skip(str(error))


def test_the_table_has_the_families_that_people_use():
    assert len(KNOWN) >= 95
    assert all(len(names) >= 12 for names in BY_KIND.values())
    assert tiny.OPTIONS.keys() <= FAMILIES.keys()
    assert not REFUSED.keys() & FAMILIES.keys()


def test_prompt_of_word_embeddings_equals_the_words_themselves(frozen):
    assert checks.words_error(frozen) < 1e-5


def test_a_text_in_a_padded_batch_is_the_text_alone(frozen):
    assert checks.padding_error(frozen) < 1e-4


def test_padding_in_front_changes_nothing_either(frozen):
    if not checks.can_pad_left(frozen):
        pytest.skip("counts positions by itself; only decoders are ever padded in front")
    assert checks.padding_error(frozen, "left") < 1e-4


def test_prompt_changes_the_outputs(frozen):
    assert checks.prompt_effect(frozen) > 1e-3


def test_gradients_reach_all_that_is_trained_and_nothing_frozen(frozen):
    assert checks.smallest_gradient(frozen) > 1e-5


def test_room_is_what_the_position_table_holds(frozen):
    assert frozen.room in (None, tiny.POSITIONS)
    states = checks.longest_states(frozen)
    assert states.shape[1] >= tiny.POSITIONS
    assert torch.isfinite(states).all()


@pytest.mark.stress
@pytest.mark.parametrize("model_type", KNOWN)
def test_half_precision_checkpoint_trains_float32_prompts_that_pickle(model_type):
    clf, before, after, n_bytes = checks.fit_from_half_precision(model_type)
    assert clf.dtype_ == "bfloat16"
    assert {weights.dtype for weights in weights_of(clf).values()} == {np.dtype("float32")}
    assert np.isfinite(before).all()
    np.testing.assert_array_equal(before, after)
    assert n_bytes < 8 * clf.n_trainable_parameters_ + 100_000


@of_families(ONE_STACK)
def test_language_model_head_gives_the_models_own_logits(frozen):
    assert checks.head_error(frozen) < 1e-4


@of_families(GENERATING)
def test_generating_with_a_cache_is_reading_all_at_once(frozen):
    with skipped_without_a_cache():
        assert checks.cache_error(frozen) < 1e-4


@of_families(GENERATING)
def test_prompt_changes_what_is_generated(frozen):
    with skipped_without_a_cache():
        assert checks.generation_effect(frozen) > 1e-4


@pytest.mark.stress
@of_families(GENERATING)
def test_beams_of_a_text_in_a_batch_are_those_of_the_text_alone(frozen):
    together = checks.generated(frozen, checks.TEXTS, num_beams=2)
    assert together == [
        text for row in checks.TEXTS for text in checks.generated(frozen, [row], num_beams=2)
    ]


@pytest.mark.parametrize("model_type", GENERATING)
def test_generator_is_trained_and_writes_the_same_alone_and_together(model_type):
    model = LoPAGenerator(
        tiny.backbone(model_type), prompt_length=3, rank=2, bottleneck=4, max_iter=2,
        max_new_tokens=4, random_state=0,
    )  # fmt: skip
    model.fit(checks.TEXTS, ["red", "green book", "blue", "a film"])
    assert np.isfinite(model.loss_curve_).all()
    with skipped_without_a_cache():
        together = model.predict(checks.TEXTS).tolist()
    assert together == [model.predict([text])[0] for text in checks.TEXTS]


# ---------------------------------------------------------------- what is refused


def folder_with(config, folder):
    """A folder that has a configuration and no weights."""
    (folder / "config.json").write_text(json.dumps(config))
    return Backbone(folder)


@pytest.mark.parametrize("model_type", [name for name in REFUSED if tiny.is_known(name)])
def test_refused_family_is_named_with_the_reason_before_weights_are_read(model_type, tmp_path):
    with pytest.raises(UnsupportedBackbone) as caught:
        live_model(folder_with({"model_type": model_type}, tmp_path))
    text = str(caught.value)
    assert f"is a {model_type!r} model, which cannot be used: {REFUSED[model_type]}" in text
    assert "Families that work: albert, " in text


def test_family_without_an_entry_is_refused_by_name(tmp_path):
    with pytest.raises(UnsupportedBackbone, match=r"'whisper' model.*sklopa has no entry for it"):
        live_model(folder_with({"model_type": "whisper"}, tmp_path))


def test_a_model_may_be_refused_for_its_configuration(tmp_path):
    config = {"model_type": "esm", "vocab_size": 33, "position_embedding_type": "absolute"}
    with pytest.raises(UnsupportedBackbone, match=r"'esm' model.*ESM-2 has one"):
        live_model(folder_with(config, tmp_path))


# ---------------------------------------------------------------- precision


def test_half_precision_weights_give_float32_states(tmp_path):
    tiny.save(tmp_path, dtype=torch.float16)
    kept, widened = live_model(Backbone(tmp_path, dtype="float16")), live_model(Backbone(tmp_path))
    assert (kept.dtype, widened.dtype) == (torch.float16, torch.float32)
    tokens = checks.batch_of(kept, checks.TEXTS[:1])
    prompt = checks.random_prompt(kept, 1)
    assert prompt.dtype == torch.float32
    states = kept.states(with_prompt(prompt, kept.embed(tokens.ids), tokens))
    assert states.dtype == torch.float32
