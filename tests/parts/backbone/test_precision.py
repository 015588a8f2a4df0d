"""Training steps may run in bfloat16; what is stored and predicted stays float32."""

import numpy as np
import pytest
import tiny
import torch
from helpers import weights_of

from sklopa import Backbone, LoPAClassifier
from sklopa._loading.live import live_model


@pytest.fixture
def fast_bfloat16(monkeypatch):
    """A processor that multiplies bfloat16 fast, whatever this one does."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)


@pytest.fixture
def slow_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)


def small(model):
    return LoPAClassifier(model, prompt_length=3, rank=2, bottleneck=8, max_iter=3, random_state=0)


def test_a_fast_processor_steps_in_bfloat16_and_predicts_in_float32(
    fast_bfloat16, tmp_path, reviews
):
    texts, labels = reviews
    model = small(tiny.save(tmp_path)).fit(texts, labels)
    frozen = live_model(Backbone(tmp_path))
    assert (frozen.dtype, frozen.in_steps.dtype) == (torch.float32, torch.bfloat16)
    assert model.dtype_ == "float32"
    assert all(value.dtype == np.float32 for value in weights_of(model).values())
    alone = np.concatenate([model.decision_function([text]) for text in texts])
    np.testing.assert_allclose(model.decision_function(texts), alone, atol=1e-4)


def test_steps_in_bfloat16_learn_what_steps_in_float32_learn(fast_bfloat16, tmp_path, reviews):
    texts, labels = reviews
    folder = tiny.save(tmp_path)
    fast = small(folder).fit(texts, labels)
    exact = small(Backbone(folder, dtype="float32")).fit(texts, labels)
    assert live_model(Backbone(folder, dtype="float32")).in_steps.dtype == torch.float32
    assert fast.loss_curve_ != exact.loss_curve_
    np.testing.assert_allclose(fast.loss_curve_, exact.loss_curve_, atol=0.02)


def test_a_slow_processor_has_no_second_copy(slow_bfloat16, tmp_path):
    frozen = live_model(Backbone(tiny.save(tmp_path)))
    assert frozen.in_steps is frozen


def test_the_copy_leaves_out_the_word_embeddings_and_changes_nothing_in_the_model(
    fast_bfloat16, tmp_path
):
    frozen = live_model(Backbone(tiny.save(tmp_path, with_head=False)))
    before = {name: value.clone() for name, value in frozen.model.state_dict().items()}
    twin = frozen.in_steps
    n_table = frozen.embedding.weight.numel()
    count = lambda model: sum(p.numel() for p in model.parameters())  # noqa: E731
    assert count(twin.model) == count(frozen.model) - n_table
    after = frozen.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
