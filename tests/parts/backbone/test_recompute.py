"""Gradient checkpointing: less is kept between the passes, and the gradients are the same."""

import numpy as np
import pytest
import tiny
import torch
from helpers import SOME_DECODERS, SOME_ENCODERS, SOME_OF_BOTH

from sklopa import Backbone, LoPAClassifier, LoPAGenerator
from sklopa._backbone.prompted import with_prompt
from sklopa._loading.live import live_model
from sklopa._tokens.batch import TokenBatch
from sklopa.errors import UnsupportedBackbone

TEXTS = ["the film was good", "bad", "a very awful book and it was not the plot"]
EXACT = {"dtype": "float32"}


def run_of_layers(frozen):
    """How often a layer runs in one forward and one backward pass, and the prompt's gradient."""
    calls, layer = [], next(m for m in frozen.base.modules() if type(m).__name__.endswith("Layer"))
    handle = next(layer.children()).register_forward_hook(lambda *args: calls.append(1))
    tokens = TokenBatch.collate(frozen.reader(None).read(TEXTS)[0])
    prompt = torch.full((len(TEXTS), 2, frozen.prompt_width), 0.1, requires_grad=True)
    states = frozen.states(with_prompt(prompt, frozen.embed(tokens.ids), tokens))
    (states * tokens_mask(tokens)).square().sum().backward()
    handle.remove()
    return len(calls), prompt.grad


def tokens_mask(tokens):
    mask = torch.cat([torch.ones(len(TEXTS), 2), tokens.mask], dim=1)
    return mask.unsqueeze(-1)


@pytest.mark.parametrize("family", SOME_ENCODERS + SOME_DECODERS + SOME_OF_BOTH)
def test_gradients_are_the_same_with_and_without(tmp_path, family):
    folder = tiny.save(tmp_path, family)
    plain = live_model(Backbone(folder, **EXACT))
    saving = live_model(Backbone(folder, **EXACT, gradient_checkpointing=True))
    gradients = []
    for frozen in (plain, saving):
        tokens = TokenBatch.collate(frozen.reader(None).read(TEXTS)[0])
        prompt = torch.full((len(TEXTS), 2, frozen.prompt_width), 0.1, requires_grad=True)
        states = frozen.states(with_prompt(prompt, frozen.embed(tokens.ids), tokens))
        (states * tokens_mask(tokens)).square().sum().backward()
        gradients.append(prompt.grad)
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(*gradients)


def test_layers_run_again_in_the_backward_pass(tmp_path):
    folder = tiny.save(tmp_path)
    plain, grad = run_of_layers(live_model(Backbone(folder, **EXACT)))
    again, same = run_of_layers(live_model(Backbone(folder, **EXACT, gradient_checkpointing=True)))
    assert (plain, again) == (1, 2)
    torch.testing.assert_close(grad, same)


@pytest.mark.parametrize("options", [{}, {"depth": "deep"}, {"train_encoder": True}])
@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_a_classifier_learns_the_same(tmp_path, reviews, options, precision):
    texts, labels = reviews
    folder = tiny.save(tmp_path)
    fitted = [
        LoPAClassifier(
            Backbone(folder, dtype=precision, gradient_checkpointing=saving),
            prompt_length=3, rank=2, bottleneck=8, max_iter=2, random_state=0, **options,
        ).fit(texts, labels)
        for saving in (False, True)
    ]  # fmt: skip
    np.testing.assert_allclose(fitted[0].loss_curve_, fitted[1].loss_curve_, atol=1e-5)


def test_a_generator_learns_and_writes_the_same(tmp_path):
    folder = tiny.save(tmp_path, "llama")
    fitted = [
        LoPAGenerator(
            Backbone(folder, gradient_checkpointing=saving), prompt_length=3, rank=2, bottleneck=8,
            max_iter=2, random_state=0, max_new_tokens=4,
        ).fit(TEXTS, ["yes", "no", "no"])
        for saving in (False, True)
    ]  # fmt: skip
    np.testing.assert_allclose(fitted[0].loss_curve_, fitted[1].loss_curve_, atol=1e-5)
    np.testing.assert_array_equal(fitted[0].predict(TEXTS), fitted[1].predict(TEXTS))


def test_a_model_with_one_layer_for_all_is_refused_by_name(tmp_path):
    folder = tiny.save(tmp_path, "albert")
    with pytest.raises(UnsupportedBackbone, match="gradient_checkpointing=True cannot be used"):
        live_model(Backbone(folder, gradient_checkpointing=True))
