"""Deep prompts: each layer reads its own rows in the prompt's place, in every family."""

import pickle
import threading
from contextlib import ExitStack

import numpy as np
import pytest
import tiny
import torch
from helpers import SOME_DECODERS, SOME_ENCODERS, SOME_OF_BOTH, weights_of, with_weights

from sklopa import Backbone, LoPAClassifier, LoPAGenerator
from sklopa._backbone.layer_rows import deep_rows
from sklopa._backbone.prompted import pad_left, with_prompt
from sklopa._batches.modes import own_modes
from sklopa._loading.live import live_model
from sklopa._tokens.batch import TokenBatch
from sklopa.errors import UnsupportedBackbone

TEXTS = ["the film was good", "bad", "a very awful book and it was not the plot", ""]
TARGETS = ["yes", "no", "no no maybe", "yes yes"]
P = 3
# The tiny one of this family, as its real small one, has layers wider than its input.
WIDER = ["electra"]
ALL = SOME_ENCODERS + SOME_DECODERS + SOME_OF_BOTH


def open_to_rows(family):
    """A frozen model whose layers take rows, and such rows (L, P, D)."""
    frozen = live_model(tiny.backbone(family))
    rows = frozen.vocabulary_rows(P, torch.Generator().manual_seed(0))
    return frozen, torch.cat([rows.unsqueeze(0), frozen.deep_starts(rows)])


def tokens_of(frozen):
    return TokenBatch.collate(frozen.reader(None).read(TEXTS)[0])


def inputs_of(frozen, prompts):
    tokens = tokens_of(frozen)
    return with_prompt(prompts.expand(len(TEXTS), -1, -1, -1), frozen.embed(tokens.ids), tokens)


def test_bert_with_deep_prompts_is_the_layers_run_by_hand():
    frozen, rows = open_to_rows("bert")
    rows = rows + torch.randn(rows.shape, generator=torch.Generator().manual_seed(1))
    inputs = inputs_of(frozen, rows)
    model = frozen.model.base_model
    blocked = torch.zeros(inputs.mask.shape).masked_fill(inputs.mask == 0, -torch.inf)
    with torch.no_grad():
        states = model.embeddings(
            inputs_embeds=inputs.embeds,
            token_type_ids=inputs.types,
            position_ids=inputs.positions,
        )
        for i, layer in enumerate(model.encoder.layer):
            if i > 0:
                states = torch.cat([rows[i].expand(len(TEXTS), -1, -1), states[:, P:]], dim=1)
            states = layer(states, blocked[:, None, None, :])
            states = states[0] if isinstance(states, tuple) else states
        ours = frozen.states(inputs)
    for i, n in enumerate(inputs.mask.sum(dim=1).tolist()):
        torch.testing.assert_close(ours[i, :n], states[i, :n], atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ALL)
def test_each_layers_rows_matter_and_get_gradients(family):
    frozen, rows = open_to_rows(family)
    rows = rows.detach().requires_grad_()
    # One number that falls apart under a norm at the end would hide the gradient.
    weight = torch.randn(frozen.width, generator=torch.Generator().manual_seed(2))
    with own_modes():
        frozen.in_use()
        (frozen.states(inputs_of(frozen, rows)) @ weight).square().sum().backward()
    assert (rows.grad.abs().amax(dim=(1, 2)) > 1e-7).all()
    with torch.no_grad():
        before = frozen.states(inputs_of(frozen, rows))
        for layer in range(len(rows)):
            changed = rows.detach().clone()
            changed[layer] = changed[layer].flip(-1)
            after = frozen.states(inputs_of(frozen, changed))
            assert (after - before)[:, P:].abs().max() > 1e-5


@pytest.mark.parametrize("family", SOME_DECODERS)
def test_padding_in_front_changes_nothing(family):
    frozen, rows = open_to_rows(family)
    right = inputs_of(frozen, rows + 0.1)
    with torch.no_grad():
        ours, theirs = frozen.states(pad_left(right)), frozen.states(right)
    for i, n in enumerate(right.mask.sum(dim=1).tolist()):
        torch.testing.assert_close(ours[i, -n:], theirs[i, :n], atol=1e-4, rtol=0)


def make(family, kind=LoPAGenerator, **options):
    options = {
        "prompt_length": P, "rank": 2, "bottleneck": 8, "max_iter": 3, "learning_rate": 1e-2,
        "depth": "deep", "random_state": 0,
    } | options  # fmt: skip
    return kind(tiny.backbone(family), **options)


@pytest.mark.parametrize("family", SOME_DECODERS + SOME_OF_BOTH)
@pytest.mark.parametrize("beams", [1, 2])
def test_batched_generation_equals_one_by_one(family, beams):
    model = make(family, max_new_tokens=5, num_beams=beams).fit(TEXTS, TARGETS)
    together = model.predict(TEXTS).tolist()
    assert together == [model.predict([text])[0] for text in TEXTS]
    assert model.sample(TEXTS[:2], 3).shape == (2, 3)


def test_generation_reads_the_deep_rows():
    model = make("llama", max_new_tokens=5).fit(TEXTS, TARGETS)
    before = model.predict(TEXTS).tolist()
    weights = weights_of(model)
    later = [name for name in weights if name.endswith("task") and ".0." not in name]
    model = with_weights(model, weights | {name: weights[name] * -9 for name in later})
    assert model.predict(TEXTS).tolist() != before


@pytest.mark.parametrize("options", [{}, {"rank": 0}, {"gate": "concat"}, {"gate": "instance"}])
def test_deep_classifier_learns_pickles_and_has_prompts_for_all_layers(reviews, options):
    texts, labels = reviews
    model = make("bert", LoPAClassifier, **options, max_iter=30).fit(texts, labels)
    assert model.score(texts, labels) > 0.9
    n_rows = 2 * P if options.get("gate") == "concat" else P
    shape = (2, tiny.LAYERS, n_rows, tiny.WIDTH)
    assert model.generate_prompts(texts[:2]).shape == shape


def test_a_deep_classifier_on_a_folder_survives_a_pickle(tiny_folder, reviews):
    texts, labels = reviews
    model = LoPAClassifier(
        tiny_folder, prompt_length=P, rank=1, bottleneck=4, max_iter=2, depth="deep", random_state=0
    ).fit(texts, labels)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(texts), model.predict_proba(texts))


def test_threads_and_shallow_estimators_on_the_same_backbone_are_left_alone(reviews):
    texts, labels = reviews
    shallow = make("bert", LoPAClassifier, depth="shallow").fit(texts, labels)
    alone = shallow.predict_proba(texts)
    deep = make("bert", LoPAClassifier).fit(texts, labels)
    expected = deep.predict_proba(texts)
    found = {}

    def work(name, model):
        found[name] = [model.predict_proba(texts) for _ in range(10)]

    threads = [
        threading.Thread(target=work, args=(name, model))
        for name, model in {"shallow": shallow, "deep": deep, "again": deep}.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, results in found.items():
        for result in results:
            np.testing.assert_array_equal(result, alone if name == "shallow" else expected)


@pytest.mark.parametrize("family", WIDER)
def test_layers_wider_than_the_input_are_refused(family, reviews):
    with pytest.raises(UnsupportedBackbone, match=rf"depth='deep'.*{family}.*32 wide.*'shallow'"):
        make(family, LoPAClassifier).fit(*reviews)


def test_a_model_without_a_list_of_layers_is_refused():
    made, reader = tiny.model("albert")  # one layer, run again and again
    model = LoPAClassifier(
        Backbone.from_objects(made, reader), prompt_length=P, depth="deep", rank=2
    )
    with pytest.raises(UnsupportedBackbone, match=r"no plain list of 2 layers.*depth='shallow'"):
        model.fit(TEXTS, TARGETS[:2] * 2)


def test_rows_of_an_outer_context_come_back():
    frozen, rows = open_to_rows("bert")
    inputs = inputs_of(frozen, rows + 1.0)
    embeds = inputs.embeds[:, P:]
    nothing = with_prompt(rows[0].expand(len(TEXTS), -1, -1), embeds, tokens_of(frozen))
    with torch.no_grad():
        plain = frozen.states(nothing)
        with frozen.deep(inputs):
            assert torch.equal(frozen.states(nothing), plain)
        assert torch.equal(frozen.states(nothing), plain)


def test_a_hook_taken_away_while_another_thread_runs_its_layer_is_left_alone():
    frozen, rows = open_to_rows("bert")
    embeds = frozen.embed(tokens_of(frozen).ids)
    layer = frozen.layers[0]
    taking = ExitStack()
    # The layer collects its hooks before it calls the first, as it would in another thread.
    first = layer.register_forward_pre_hook(lambda *args: taking.close())
    with ExitStack() as stack:
        stack.callback(first.remove)
        taking.enter_context(deep_rows([layer], rows[1:2], torch.tensor([0]), 1))
        layer(embeds)
    assert not layer._forward_pre_hooks
