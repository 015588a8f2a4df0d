"""Prompts that join a later layer: the layers below run once, without them, in every family."""

import dataclasses

import numpy as np
import pytest
import tiny
import tiny_vision
import torch

from sklopa import (
    Backbone,
    LoPAClassifier,
    LoPAImageClassifier,
    LoPARegressor,
    cache_clear,
    cache_info,
)
from sklopa._backbone.families import FAMILIES
from sklopa._cache import process
from sklopa._loading.live import live_model
from sklopa._tokens.batch import TokenBatch, collate
from sklopa.errors import InvalidParameter, UnsupportedBackbone
from sklopa.serving import MultiTaskPredictor

TEXTS = ["the film was good", "bad", "a very awful book and it was not the plot"]
P = 3
# Layers that prompts cannot enter: none in a plain list, or wider than the input.
CLOSED = {"albert", "flaubert", "squeezebert", "xlm"}
WIDER = {"electra", "mobilebert", "rembert", "roformer"}
OPEN = sorted(name for name in FAMILIES if tiny.is_known(name) and name not in CLOSED | WIDER)


def frozen_of(family, layer=1):
    return live_model(tiny.backbone(family)).at_layer(layer)


def tokens_of(frozen, texts=TEXTS):
    return TokenBatch.collate(frozen.reader(None).read(texts)[0])


def prompt_of(frozen, n):
    return (frozen.prompt_start(P, torch.Generator().manual_seed(0)) + 0.3).expand(n, -1, -1)


@pytest.mark.parametrize("family", OPEN)
def test_layers_that_are_left_out_would_have_changed_nothing(family):
    frozen = frozen_of(family)
    whole = frozen.at_layer(0).at_layer(1)
    whole.family = dataclasses.replace(frozen.family, skips_layers=False)
    tokens, prompt = tokens_of(frozen), prompt_of(frozen, len(TEXTS))
    is_token = tokens.mask.bool()
    with torch.no_grad():
        ours = frozen.states_behind(prompt, tokens)
        torch.testing.assert_close(ours[is_token], whole.states_behind(prompt, tokens)[is_token])
        other = frozen.states_behind(prompt * 0, tokens)
    assert (ours - other)[is_token].abs().max() > 1e-3


@pytest.mark.parametrize("family", OPEN)
def test_a_row_does_not_depend_on_the_rows_beside_it(family):
    frozen = frozen_of(family)
    with torch.no_grad():
        together = frozen.states_behind(prompt_of(frozen, len(TEXTS)), tokens_of(frozen))
        for i, text in enumerate(TEXTS):
            alone = frozen.states_behind(prompt_of(frozen, 1), tokens_of(frozen, [text]))
            torch.testing.assert_close(together[i, : alone.shape[1]], alone[0], atol=1e-4, rtol=0)


def test_bert_behind_such_a_prompt_is_its_layers_run_by_hand():
    frozen, model = frozen_of("bert"), live_model(tiny.backbone("bert")).base
    tokens, prompt = tokens_of(frozen), prompt_of(frozen, len(TEXTS))
    blocked = torch.zeros(tokens.mask.shape).masked_fill(tokens.mask == 0, -torch.inf)
    behind = torch.cat([torch.zeros(len(TEXTS), P), blocked], dim=1)
    with torch.no_grad():
        states = model.embeddings(input_ids=tokens.ids, token_type_ids=tokens.types)
        for i, layer in enumerate(model.encoder.layer):
            if i == 1:
                states, blocked = torch.cat([prompt, states], dim=1), behind
            states = layer(states, blocked[:, None, None, :])
            states = states[0] if isinstance(states, tuple) else states
        ours = frozen.states_behind(prompt, tokens)
    is_token = tokens.mask.bool()
    torch.testing.assert_close(ours[is_token], states[:, P:][is_token], atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", tiny_vision.FAMILIES)
@pytest.mark.parametrize("depth", ["shallow", "deep"])
def test_image_classifiers_learn_with_a_prompt_at_a_later_layer(family, depth):
    images, labels = tiny_vision.images(16)
    clf = LoPAImageClassifier(
        tiny_vision.backbone(family), prompt_layer=1, prompt_length=2, rank=1, bottleneck=4,
        max_iter=2, depth=depth, random_state=0,
    ).fit(images, labels)  # fmt: skip
    before = clf.predict_proba(images)
    cache_clear()
    np.testing.assert_allclose(clf.predict_proba(images), before, atol=1e-5)
    frozen = live_model(clf.model).at_layer(1)
    item = frozen.reader().read([image_row(images[0])])[0]
    assert frozen.lower_states(collate(item)).shape[1] == frozen.n_states(item[0])


def image_row(image):
    from sklopa._inputs.images import check_images

    return check_images([image]).rows[0]


@pytest.mark.parametrize("options", [{}, {"rank": 0}, {"depth": "deep"}, {"gate": "concat"}])
def test_classifiers_learn_with_a_prompt_at_a_later_layer(make_classifier, reviews, options):
    clf = make_classifier(prompt_layer=1, max_iter=20, **options).fit(*reviews)
    assert clf.score(*reviews) > 0.9


def test_states_that_are_kept_or_computed_again_give_the_same(
    make_classifier, reviews, monkeypatch
):
    cache_clear()
    kept = make_classifier(prompt_layer=1).fit(*reviews)
    assert cache_info().states_bytes > 0
    expected = kept.predict_proba(reviews[0])
    cache_clear()
    monkeypatch.setattr(process.STATES, "max_bytes", 4000)  # a few rows
    again = make_classifier(prompt_layer=1).fit(*reviews)
    assert 0 < cache_info().states_bytes <= 4000
    np.testing.assert_allclose(again.predict_proba(reviews[0]), expected, atol=1e-4)


def test_lower_layers_run_once_for_a_new_text_and_not_again(make_classifier, reviews):
    clf = make_classifier(prompt_layer=1).fit(*reviews)
    base, calls = live_model(clf.model).base, []
    handles = [
        layer.register_forward_hook(lambda *args, i=i: calls.append(i))
        for i, layer in enumerate(base.encoder.layer)
    ]
    try:
        clf.predict(["a fine film and an awful plot"])
        assert calls == [0, 1, 1]  # without the prompt, then only what is above it
        calls.clear()
        clf.predict(["a fine film and an awful plot"])
        assert calls == [1]
    finally:
        for handle in handles:
            handle.remove()


def test_regressors_and_pairs_take_such_prompts(pairs):
    rows, labels = pairs
    y = np.array([label == "same" for label in labels], dtype=float)
    options = {"prompt_length": 3, "rank": 2, "bottleneck": 8, "prompt_layer": 1, "max_iter": 2}
    LoPARegressor(tiny.backbone(), **options).fit(rows, y).predict(rows)
    LoPAClassifier(tiny.backbone(), **options).fit(rows, labels).predict(rows)


@pytest.mark.parametrize("family", sorted(CLOSED | WIDER))
def test_families_whose_layers_prompts_cannot_enter_are_refused_by_name(family, reviews):
    if not tiny.is_known(family):
        pytest.skip("this version of transformers does not know the family")
    clf = LoPAClassifier(tiny.backbone(family), prompt_layer=1, prompt_length=2, rank=1)
    with pytest.raises(UnsupportedBackbone, match="prompt_layer=0"):
        clf.fit(*reviews)


def test_a_layer_that_is_not_there_is_refused(make_classifier, reviews):
    with pytest.raises(InvalidParameter, match=r"prompt_layer must be below 2.*got 2"):
        make_classifier(prompt_layer=2).fit(*reviews)


def test_shared_batches_refuse_such_prompts(make_classifier, reviews):
    clf = make_classifier(prompt_layer=1).fit(*reviews)
    with pytest.raises(InvalidParameter, match="prompt_layer=1"):
        MultiTaskPredictor({"mood": clf})


def test_the_models_own_layers_carry_no_hooks_afterwards(make_classifier, reviews):
    made, reader = tiny.model("bert")
    made(torch.tensor([[2, 3]]), output_hidden_states=True)  # transformers' own hooks

    def hooks():
        return [(*m._forward_pre_hooks, *m._forward_hooks) for m in made.modules()]

    before = hooks()
    LoPAClassifier(
        Backbone.from_objects(made, reader), prompt_layer=1, prompt_length=2, rank=1, max_iter=1
    ).fit(*reviews)
    assert hooks() == before
