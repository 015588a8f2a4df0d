"""Every family: the prompt enters as real tokens would, and padding never matters."""

import pytest
import tiny
import torch

from sklopa import Backbone
from sklopa._batch import TokenBatch
from sklopa._building import Design, build
from sklopa._families import FAMILIES, family_of
from sklopa._frozen import pad_left, prepend
from sklopa._loading import load
from sklopa._preparing import prepare_rows
from sklopa.errors import UnsupportedBackbone

TEXTS = ["the film was good", "bad", "a very awful book and it was not the plot", ""]
ONE_STACK = tiny.ENCODERS + tiny.DECODERS
ALL = ONE_STACK + tiny.BOTH


@pytest.fixture(scope="module", params=ALL)
def frozen(request):
    return load(tiny.backbone(request.param))


def batch_of(frozen, texts):
    return TokenBatch.collate(frozen.reader(None).read(texts)[0])


def random_prompt(frozen, n, length=3):
    rows = frozen.vocabulary_rows(length, torch.Generator().manual_seed(0))
    return rows.expand(n, -1, -1)


def test_every_family_of_the_table_is_tested():
    assert sorted(ALL) == sorted(FAMILIES)


def test_prompt_of_word_embeddings_equals_the_words_themselves(frozen):
    tokens = batch_of(frozen, TEXTS[:1])
    ids = torch.tensor([[7, 8, 9]])
    together = torch.cat([ids, tokens.ids], dim=1)
    ones = torch.ones_like(together)
    types = {} if tokens.types is None else {"token_type_ids": torch.zeros_like(together)}
    with torch.no_grad():
        ours = frozen.states(prepend(frozen.embed(ids), frozen.embed(tokens.ids), tokens))
        theirs = frozen.base(input_ids=together, attention_mask=ones, **types)[0]
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_states_of_a_text_do_not_depend_on_padding(frozen):
    everything = batch_of(frozen, TEXTS)
    prompt = random_prompt(frozen, len(TEXTS))
    with torch.no_grad():
        together = frozen.states(prepend(prompt, frozen.embed(everything.ids), everything))
        for i, text in enumerate(TEXTS):
            alone = batch_of(frozen, [text])
            one = frozen.states(prepend(prompt[:1], frozen.embed(alone.ids), alone))[0]
            torch.testing.assert_close(together[i, : len(one)], one, atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", ONE_STACK)
def test_language_model_head_gives_the_models_own_logits(family):
    frozen = load(tiny.backbone(family))
    tokens = batch_of(frozen, TEXTS[:1])
    types = {} if tokens.types is None else {"token_type_ids": tokens.types}
    with torch.no_grad():
        states = frozen.states(prepend(None, frozen.embed(tokens.ids), tokens))
        ours = frozen.lm_logits(states)
        theirs = frozen.model(input_ids=tokens.ids, attention_mask=tokens.mask, **types).logits
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_prompt_changes_the_outputs_and_gradients_reach_only_what_is_trained(frozen):
    backbone = frozen.key
    design = Design(
        backbone, backbone, n_outputs=3, prompt_length=3, rank=2, bottleneck=4, gate="sigmoid",
        dropout=0.0, train_encoder=False, max_length=None,
    )  # fmt: skip
    network = build(design)
    with torch.no_grad():  # not all ones: a layer norm would make their sum a constant
        network.head.weight.copy_(torch.linspace(-1, 1, 3 * frozen.width).view(3, -1))
    rows, _ = prepare_rows(network, design, TEXTS)
    batch = rows.batch(torch.arange(len(TEXTS)).numpy())
    features = network.features(batch)
    zeroed = network.features_behind(torch.zeros_like(network.prompts(batch)), batch)
    assert (features - zeroed).abs().max() > 1e-3
    network.head(features).square().sum().backward()
    assert all(
        p.grad is not None and p.grad.abs().max() > 1e-6 for p in network.prompt.parameters()
    )
    assert all(p.grad is None and not p.requires_grad for p in frozen.model.parameters())


def test_room_is_what_the_position_table_holds(frozen):
    assert frozen.room == (None if frozen.config.model_type == "t5" else tiny.POSITIONS)
    longest = "good " * (tiny.POSITIONS - 2 - 3)
    tokens = batch_of(frozen, [longest])
    with torch.no_grad():
        states = frozen.states(prepend(random_prompt(frozen, 1), frozen.embed(tokens.ids), tokens))
    assert torch.isfinite(states).all()


@pytest.mark.parametrize("family", ONE_STACK)
def test_padding_in_front_changes_nothing_either(family):
    frozen = load(tiny.backbone(family))
    if frozen.family.kind == "encoder" and "position_ids" not in frozen.accepts:
        pytest.skip("counts positions by itself; only decoders are ever padded in front")
    tokens = batch_of(frozen, TEXTS)
    right = prepend(random_prompt(frozen, len(TEXTS)), frozen.embed(tokens.ids), tokens)
    left = pad_left(right)
    with torch.no_grad():
        ours, theirs = frozen.states(left), frozen.states(right)
    for i, n in enumerate(right.mask.sum(dim=1).tolist()):
        torch.testing.assert_close(ours[i, -n:], theirs[i, :n], atol=1e-4, rtol=0)


def test_unknown_family_is_refused_by_name_before_weights_are_read():
    class Config:
        model_type = "whisper"

    with pytest.raises(UnsupportedBackbone, match=r"'whisper' model.*Families that work: bart"):
        family_of(Config, "some/model")


def test_half_precision_checkpoint_gives_float32_states_and_prompts(tmp_path):
    model, tokenizer = tiny.model("bert")
    model.to(torch.float16).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    kept = load(Backbone(tmp_path, dtype="float16"))
    widened = load(Backbone(tmp_path))
    assert (kept.dtype, widened.dtype) == (torch.float16, torch.float32)
    tokens = batch_of(kept, TEXTS[:1])
    states = kept.states(prepend(random_prompt(kept, 1), kept.embed(tokens.ids), tokens))
    assert states.dtype == random_prompt(kept, 1).dtype == torch.float32
