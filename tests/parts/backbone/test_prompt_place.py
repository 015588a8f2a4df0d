"""Where the prompt stands: within the text as in front of it, against pieces joined by hand."""

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from helpers import CLOSE, design_of, network_of, raises, rows_of

import sklopa
from sklopa import Backbone, LoPAClassifier, LoPAGenerator
from sklopa._backbone.lm_head import end_ids
from sklopa._backbone.prompted import pad_left, with_prompt, without_prompt
from sklopa._heads.writing import Decoding, write_texts
from sklopa._loading.live import live_model
from sklopa._tokens.batch import TokenBatch, Tokens
from sklopa.serving import MultiTaskPredictor

DECODERS = ["gpt2", "llama"]
SOURCES = ["good film", "bad book", "the very awful plot and it was not good", "red", "blue maybe"]
TARGETS = ["yes", "no", "no no maybe", "yes yes", "maybe"]
BEFORE, BEHIND = "it was a red book and", "a blue plot"
CHAT = (
    "{% for m in messages %}" + BEFORE + " {% for part in m['content'] %}{{ part['text'] }}"
    "{% endfor %} {% endfor %}" + BEHIND
)
OPTIONS = {
    "prompt_length": 3, "rank": 2, "bottleneck": 8, "max_iter": 8, "batch_size": 4,
    "learning_rate": 1e-2, "random_state": 0,
}  # fmt: skip
P, D = 3, tiny.WIDTH


def chatty(family, chat=CHAT):
    """A tiny model whose tokenizer has a chat template."""
    made, tokenizer = tiny.model(family)
    tokenizer.chat_template = chat
    return Backbone.from_objects(made, tokenizer)


def generator(backbone, **options):
    return LoPAGenerator(backbone, **{"max_new_tokens": 6} | OPTIONS | options)


@pytest.fixture(scope="module", params=DECODERS)
def fitted(request):
    return generator(chatty(request.param)).fit(SOURCES, TARGETS)


def ids_of(frozen, text):
    return torch.tensor([frozen.tokenizer(text, add_special_tokens=False)["input_ids"]])


def pieces(model, i):
    """The input of row i, (1, N, D), from pieces that are joined here."""
    frozen = network_of(model).frozen
    Z = torch.from_numpy(model.generate_prompts(SOURCES)[i : i + 1])
    before, behind = (frozen.embed(ids_of(frozen, text)) for text in (BEFORE, BEHIND))
    return torch.cat([before, Z, frozen.embed(ids_of(frozen, SOURCES[i])), behind], dim=1)


# ---------------------------------------------------------------------- the joined input


@pytest.fixture
def batch():
    """Rows of other lengths, with the prompt at other places."""
    places = [0, 2, 4, 1, 5]
    lengths = [4, 3, 6, 1, 5]
    rows = [
        Tokens(np.arange(1, n + 1), np.arange(n), prompt_at=at)
        for n, at in zip(lengths, places, strict=True)
    ]
    return rows, TokenBatch.collate(rows)


def test_the_prompt_stands_behind_as_many_tokens_as_a_row_says(batch):
    rows, tokens = batch
    embeds = torch.randn(len(rows), tokens.ids.shape[1], D)
    prompt = torch.randn(len(rows), P, D)
    inputs = with_prompt(prompt, embeds, tokens)
    for i, row in enumerate(rows):
        own, at, n = embeds[i, : len(row)], row.prompt_at, len(row) + P
        expected = torch.cat([own[:at], prompt[i], own[at:]])
        assert torch.equal(inputs.embeds[i, :n], expected)
        assert not inputs.embeds[i, n:].any()
        assert inputs.mask[i].tolist() == [1] * n + [0] * (inputs.mask.shape[1] - n)
        assert inputs.positions[i, :n].tolist() == list(range(n))
        kinds = row.types.tolist()
        assert inputs.types[i, :n].tolist() == kinds[:at] + [0] * P + kinds[at:]
        left = pad_left(inputs)
        assert torch.equal(left.embeds[i, -n:], expected)
        assert torch.equal(left.embeds[i, left.start[i] : left.start[i] + P], prompt[i])
        assert left.positions[i, -n:].tolist() == list(range(n))


def test_the_states_of_the_text_are_found_again(batch):
    rows, tokens = batch
    embeds = torch.randn(len(rows), tokens.ids.shape[1], D) * tokens.mask.unsqueeze(-1)
    inputs = with_prompt(torch.randn(len(rows), P, D), embeds, tokens)
    assert torch.equal(without_prompt(inputs.embeds, inputs), embeds)


def test_in_front_it_is_what_joining_gives_bit_for_bit(batch):
    rows, _ = batch
    tokens = TokenBatch.collate([replace(row, prompt_at=0) for row in rows])
    embeds = torch.randn(len(rows), tokens.ids.shape[1], D) * tokens.mask.unsqueeze(-1)
    prompt = torch.randn(len(rows), P, D)
    inputs = with_prompt(prompt, embeds, tokens)
    assert torch.equal(inputs.embeds, torch.cat([prompt, embeds], dim=1))
    assert torch.equal(without_prompt(inputs.embeds, inputs), inputs.embeds[:, P:])


# ---------------------------------------------------------------------- generators


def test_greedy_texts_are_those_of_pieces_joined_by_hand(fitted):
    frozen, expected = network_of(fitted).frozen, []
    for i in range(len(SOURCES)):
        embeds, ids = pieces(fitted, i), []
        for _ in range(fitted.max_new_tokens):
            with torch.no_grad():
                token = int(frozen.model(inputs_embeds=embeds).logits[0, -1].argmax())
            if token in end_ids(frozen):
                break
            ids.append(token)
            embeds = torch.cat([embeds, frozen.embed(torch.tensor([[token]]))], dim=1)
        expected.append(frozen.tokenizer.decode(ids, skip_special_tokens=True))
    assert fitted.predict(SOURCES).tolist() == expected
    assert len({*expected}) > 1


def test_the_likelihood_is_that_of_pieces_joined_by_hand(fitted):
    frozen, expected = network_of(fitted).frozen, []
    for i, target in enumerate(TARGETS):
        ids = [*ids_of(frozen, target)[0].tolist(), frozen.tokenizer.eos_token_id]
        embeds = torch.cat([pieces(fitted, i), frozen.embed(torch.tensor([ids[:-1]]))], dim=1)
        with torch.no_grad():
            logits = frozen.model(inputs_embeds=embeds).logits[0, -len(ids) :]
        expected.append(logits.log_softmax(-1)[range(len(ids)), ids].mean().item())
    np.testing.assert_allclose(fitted.log_likelihood(SOURCES, TARGETS), expected, **CLOSE)


def test_gradients_reach_the_prompt_where_it_stands(fitted):
    network = network_of(fitted)
    frozen, tokens = network.frozen, rows_of(fitted, SOURCES).batch(np.arange(2)).texts
    prompt = torch.randn(2, P, D, requires_grad=True)
    frozen.states_behind(prompt, tokens).square().sum().backward()
    together = prompt.grad.clone()
    for i in range(2):
        row = rows_of(fitted, SOURCES).batch(np.array([i])).texts
        own = prompt[i : i + 1].detach().requires_grad_()
        frozen.states_behind(own, row).square().sum().backward()
        assert own.grad.abs().min() > 0
        torch.testing.assert_close(together[i], own.grad[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"depth": "deep"}])
def test_batches_write_what_single_rows_write(options):
    model = generator(chatty("llama"), **options).fit(SOURCES, TARGETS)
    together = model.predict(SOURCES).tolist()
    assert together == [model.predict([text])[0] for text in SOURCES]
    alone = [model.log_likelihood([x], [y])[0] for x, y in zip(SOURCES, TARGETS, strict=True)]
    np.testing.assert_allclose(model.log_likelihood(SOURCES, TARGETS), alone, **CLOSE)


@pytest.mark.parametrize("family", DECODERS)
def test_deep_prompts_replace_their_rows_within_the_text(family):
    model = generator(chatty(family), depth="deep").fit(SOURCES, TARGETS)
    network, rows = network_of(model), rows_of(model, SOURCES)
    frozen = network.frozen
    with torch.no_grad():
        tokens = rows.batch(np.arange(len(SOURCES)))
        prompts = network.prompts(tokens)  # (B, L, P, D)
        found = frozen.states_behind(prompts, tokens.texts)
    at = ids_of(frozen, BEFORE).shape[1]
    for i in range(len(SOURCES)):
        before, behind = (frozen.embed(ids_of(frozen, text)) for text in (BEFORE, BEHIND))
        text = frozen.embed(ids_of(frozen, SOURCES[i]))
        embeds = torch.cat([before, prompts[i, :1], text, behind], dim=1)

        def replaced(layer, args, kwargs, rows=prompts[i, 1]):
            states = (args[0] if args else kwargs["hidden_states"]).clone()
            states[0, at : at + P] = rows
            if args:
                return (states, *args[1:]), kwargs
            return args, kwargs | {"hidden_states": states}

        hook = frozen.layers[1].register_forward_pre_hook(replaced, with_kwargs=True)
        try:
            with torch.no_grad():
                states = frozen.base(inputs_embeds=embeds)[0][0]
        finally:
            hook.remove()
        expected = torch.cat([states[:at], states[at + P :]])
        torch.testing.assert_close(found[i, : len(expected)], expected, rtol=1e-3, atol=1e-4)


def test_generation_starts_the_same_with_the_cache_and_many_samples(fitted):
    network = network_of(fitted)
    inputs = network.inputs(rows_of(fitted, SOURCES).batch(np.arange(len(SOURCES))))
    cold = Decoding(max_new_tokens=4, do_sample=True, temperature=1e-4)
    with torch.inference_mode():
        greedy = [text for (text,) in write_texts(network.frozen, inputs, Decoding(4))]
        drawn = write_texts(network.frozen, inputs, cold, torch.Generator().manual_seed(0), 2)
    assert drawn == [[text] * 2 for text in greedy]


@pytest.mark.parametrize("family", DECODERS)
def test_tasks_with_the_prompt_at_other_places_share_a_batch(family):
    backbone = chatty(family)
    words = {"verbalizer": {"pos": "yes", "neg": "no"}, "head": "verbalizer"}
    labels = ["pos", "neg", "neg", "pos", "pos"]
    options = OPTIONS | {"max_iter": 2}
    tasks = {
        "chat": generator(backbone).fit(SOURCES, TARGETS),
        "bare": generator(backbone, chat_template=None, prompt_length=5),
        "words": LoPAClassifier(backbone, **words, **options).fit(SOURCES, labels),
        "bare words": LoPAClassifier(backbone, chat_template=None, **words, **options),
        "linear": LoPAClassifier(backbone, **options).fit(SOURCES, labels),
    }
    tasks["bare words"].fit(SOURCES, labels)
    tasks["bare"].fit(SOURCES, TARGETS[::-1])
    assert {tuple(row.prompt_at for row in rows_of(m, SOURCES).tokens) for m in tasks.values()} == {
        (0,) * 5, (6,) * 5,
    }  # fmt: skip
    names = np.repeat(list(tasks), len(SOURCES))
    found = MultiTaskPredictor(tasks, batch_size=7).predict(names, SOURCES * len(tasks))
    for name, model in tasks.items():
        assert found[names == name].tolist() == model.predict(SOURCES).tolist()


def test_another_template_is_another_place_and_without_one_it_is_the_front():
    backbone = chatty("llama")
    chat, bare = generator(backbone), generator(backbone, chat_template=None)
    at = [{row.prompt_at for row in rows_of(m.fit(SOURCES, TARGETS), SOURCES).tokens}
          for m in (chat, bare)]  # fmt: skip
    assert at == [{6}, {0}]
    assert design_of(bare).template is None


def test_long_sources_are_cut_behind_the_prompt():
    model = generator(chatty("llama")).fit(SOURCES, TARGETS)
    (row,) = rows_of(model, ["good " * 200]).tokens
    words = model.model.objects[1].convert_ids_to_tokens(row.ids)
    assert words[: row.prompt_at] == BEFORE.split()
    assert words[-3:] == BEHIND.split()
    assert len(row) + P + model.max_new_tokens <= tiny.POSITIONS
    with raises(ValueError, BEFORE, "{text}", "alone takes 9 tokens", "limit is 8"):
        generator(chatty("llama"), max_length=8).fit(["good " * 20, *SOURCES[1:]], TARGETS)


def test_what_is_stored_keeps_the_place(fitted, tmp_path):
    fitted.save(tmp_path / "model.zip")
    restored = sklopa.load(tmp_path / "model.zip", backbone=fitted.model)
    assert design_of(restored) == design_of(fitted)
    assert restored.predict(SOURCES).tolist() == fitted.predict(SOURCES).tolist()


def test_a_state_from_before_there_was_a_place_has_the_prompt_in_front(fitted):
    state, template = fitted.__getstate__(), design_of(fitted).template
    old = {"pattern": f"{BEFORE} {{text}} {BEHIND}", "mask_token": None, "mask_id": None,
           "special_tokens": False}  # fmt: skip
    assert old.keys() < vars(template).keys()
    state["_design"] = state["_design"] | {"template": old}
    model = type(fitted).__new__(type(fitted))
    model.__setstate__(state)
    (row,) = rows_of(model, SOURCES[:1]).tokens
    assert row.prompt_at == 0
    frozen = live_model(fitted.model)
    assert row.ids.tolist() == ids_of(frozen, f"{BEFORE} {SOURCES[0]} {BEHIND}")[0].tolist()


# ---------------------------------------------------------------------- verbalisers


@pytest.mark.parametrize("family", DECODERS)
@pytest.mark.parametrize("options", [{}, {"prompt_layer": 1}])
def test_a_causal_verbaliser_follows_the_same_rule(family, options):
    clf = LoPAClassifier(
        chatty(family), head="verbalizer", template="the {text}", **OPTIONS | options,
        verbalizer={"pos": "yes", "neg": "no"},
    ).fit(SOURCES, ["pos", "neg", "neg", "pos", "pos"])  # fmt: skip
    together = clf.predict_proba(SOURCES)
    alone = np.concatenate([clf.predict_proba([text]) for text in SOURCES])
    np.testing.assert_allclose(together, alone, **CLOSE)
    if options:
        return
    frozen, Z = network_of(clf).frozen, torch.from_numpy(clf.generate_prompts(SOURCES))
    words = [ids_of(frozen, word)[0, 0] for word in ("no", "yes")]  # as the classes are sorted
    for i, text in enumerate(SOURCES):
        before, rest = ids_of(frozen, BEFORE), ids_of(frozen, f"the {text} {BEHIND}")
        embeds = torch.cat([frozen.embed(before), Z[i : i + 1], frozen.embed(rest)], dim=1)
        with torch.no_grad():
            logits = frozen.model(inputs_embeds=embeds).logits[0, -1, words]
        np.testing.assert_allclose(together[i], logits.softmax(-1).numpy(), **CLOSE)


def test_masked_models_and_linear_heads_have_it_in_front():
    backbone = chatty("bert")
    options = {"head": "verbalizer", "verbalizer": {"pos": "yes", "neg": "no"}}
    for more in ({}, options):
        clf = LoPAClassifier(backbone, **OPTIONS | {"max_iter": 1} | more)
        clf.fit(SOURCES, ["pos", "neg", "neg", "pos", "pos"])
        assert {row.prompt_at for row in rows_of(clf, SOURCES).tokens} == {0}
