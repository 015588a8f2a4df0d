"""Where prompts start: at words drawn at random, or at a text."""

import numpy as np
import pytest
import tiny
import torch
from helpers import raises

from sklopa import LoPAClassifier, LoPAGenerator, LoPARegressor
from sklopa._loading.live import live_language_model

TEXTS = ["good film", "bad book", "awful plot", "blue maybe", "red and good", "no book"]
LABELS, NUMBERS = [1, 0, 0, 1, 1, 0], [1.0, 0.0, 0.5, 1.5, 2.0, 0.1]
TARGETS = ["yes", "no", "no no", "maybe", "yes yes", "no maybe"]
AT_REST = {
    "prompt_length": 5, "rank": 0, "max_iter": 1, "learning_rate": 1e-12, "random_state": 0,
}  # fmt: skip
KINDS = {
    "classifier": lambda backbone, **o: LoPAClassifier(backbone, **AT_REST | o).fit(TEXTS, LABELS),
    "regressor": lambda backbone, **o: LoPARegressor(backbone, **AT_REST | o).fit(TEXTS, NUMBERS),
    "generator": lambda backbone, **o: LoPAGenerator(backbone, max_new_tokens=3, **AT_REST | o).fit(
        TEXTS, TARGETS
    ),
}


def prompt_of(model):
    return model.generate_prompts(TEXTS[:1])[0]


def rows_at(backbone, ids):
    frozen = live_language_model(backbone)
    return frozen.embed(torch.tensor([ids])).detach().numpy()[0]


def tokens_of(backbone, text):
    tokenizer = live_language_model(backbone).tokenizer
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
def test_the_prompt_starts_at_the_tokens_of_a_text(kind, family):
    if (kind, family) == ("generator", "bert"):
        family = "llama"
    backbone, text = tiny.backbone(family), "the very good film and the awful plot"
    ids = tokens_of(backbone, text)[: AT_REST["prompt_length"]]
    assert len(ids) == AT_REST["prompt_length"]
    started = prompt_of(KINDS[kind](backbone, initial_text=text))
    np.testing.assert_allclose(started, rows_at(backbone, ids), atol=1e-5)


def test_a_short_text_begins_again():
    backbone = tiny.backbone()
    one, two = tokens_of(backbone, "good film")
    started = prompt_of(KINDS["classifier"](backbone, initial_text="good film"))
    np.testing.assert_allclose(started, rows_at(backbone, [one, two, one, two, one]), atol=1e-5)


def test_a_gated_prompt_starts_at_the_size_of_the_words():
    backbone, text = tiny.backbone(), "the very good film and"
    started = prompt_of(KINDS["classifier"](backbone, initial_text=text, rank=2, bottleneck=4))
    expected = rows_at(backbone, tokens_of(backbone, text))
    cosine = (started * expected).sum(axis=1) / np.prod(
        [np.linalg.norm(rows, axis=1) for rows in (started, expected)], axis=0
    )
    assert cosine.min() > 0.9


@pytest.mark.parametrize("options", [{"prompt_layer": 1}, {"depth": "deep"}])
def test_at_a_later_layer_it_starts_at_the_states_of_the_text(options):
    backbone, text = tiny.backbone(), "the very good film and"
    started = prompt_of(KINDS["classifier"](backbone, initial_text=text, **options))
    words = torch.tensor(rows_at(backbone, tokens_of(backbone, text)))
    states = torch.cat([words.unsqueeze(0), live_language_model(backbone).deep_starts(words)])
    expected = states[1] if "prompt_layer" in options else states
    np.testing.assert_allclose(started, expected, atol=1e-5)


def test_tokens_of_the_model_are_read_as_text():
    backbone = tiny.backbone()
    cls = live_language_model(backbone).tokenizer.cls_token
    plain = prompt_of(KINDS["classifier"](backbone, initial_text=f"{cls} good"))
    meant = prompt_of(
        KINDS["classifier"](backbone, initial_text=f"{cls} good", special_tokens=True)
    )
    assert not np.allclose(plain, meant)


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_text_it_starts_at_words_drawn_at_random(kind):
    backbone = tiny.backbone("llama")
    drawn = [prompt_of(KINDS[kind](backbone, random_state=seed)) for seed in (0, 1)]
    vocabulary = live_language_model(backbone).embedding.weight.detach().numpy()
    for rows in drawn:
        distance = abs(rows[:, None] - vocabulary[None]).max(axis=2).min(axis=1)
        assert distance.max() < 1e-5
    assert not np.allclose(*drawn)


def test_networks_start_alike_with_a_text_and_without():
    options = {"rank": 2, "bottleneck": 4, "gate": "add"}
    models = [
        KINDS["classifier"](tiny.backbone(), initial_text=text, **options)
        for text in (None, "good film")
    ]
    prompts = [model.generate_prompts(TEXTS[:2]) for model in models]
    ours, theirs = (rows[1] - rows[0] for rows in prompts)  # Z_S is the same for both texts
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize("bad", ["", " \n", 3, ["good film"], b"good"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_text_is_refused(kind, bad):
    with raises(ValueError, "initial_text", "a text with words or None"):
        KINDS[kind](tiny.backbone("llama"), initial_text=bad)


def test_without_a_prompt_it_has_no_effect():
    with pytest.warns(UserWarning, match="initial_text='good film' has no effect"):
        KINDS["classifier"](tiny.backbone(), prompt_length=0, initial_text="good film")
