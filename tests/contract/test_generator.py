"""Texts from texts: batching, caches and beams change nothing; the prompt changes everything."""

import pickle

import numpy as np
import pytest
import tiny
import torch
from helpers import SOME_DECODERS, SOME_OF_BOTH, design_of, network_of, rows_of

import sklopa
from sklopa import Backbone, LoPAGenerator
from sklopa._heads.writing import Decoding, write_texts
from sklopa._loading.live import live_model
from sklopa._tokens.template import Template
from sklopa.errors import (
    InvalidInput,
    InvalidParameter,
    InvalidType,
    TruncationWarning,
    UnsupportedBackbone,
)

GENERATORS = SOME_DECODERS + SOME_OF_BOTH
SOURCES = ["good film", "bad book", "the very awful plot and it was not good", "red", "blue maybe"]
TARGETS = ["yes", "no", "no no maybe", "yes yes", "maybe"]


def make(family="llama", **options):
    options = {
        "prompt_length": 3, "rank": 2, "bottleneck": 8, "max_iter": 5, "batch_size": 4,
        "learning_rate": 1e-2, "random_state": 0, "max_new_tokens": 6,
    } | options  # fmt: skip
    return LoPAGenerator(tiny.backbone(family), **options)


@pytest.fixture(scope="module", params=GENERATORS)
def fitted(request):
    return make(request.param).fit(SOURCES, TARGETS)


@pytest.fixture(scope="module")
def llama():
    return make(max_iter=60, early_stopping=False, n_iter_no_change=60).fit(SOURCES, TARGETS)


def test_batched_output_equals_one_by_one(fitted):
    together = fitted.predict(SOURCES)
    assert together.tolist() == [fitted.predict([text])[0] for text in SOURCES]


@pytest.mark.parametrize("beams", [1, 3])
def test_zeroing_the_prompt_changes_the_generated_tokens(fitted, beams):
    network, options = network_of(fitted), Decoding(max_new_tokens=6, num_beams=beams)
    rows = rows_of(fitted, SOURCES)
    inputs = network.inputs(rows.batch(np.arange(len(SOURCES))))
    zeroed = inputs.embeds.clone()
    zeroed[:, : inputs.prompt_length] = 0
    with torch.inference_mode():
        ours = write_texts(network.frozen, inputs, options)
        from dataclasses import replace

        theirs = write_texts(network.frozen, replace(inputs, embeds=zeroed), options)
    assert ours != theirs


def test_greedy_with_the_cache_equals_reading_everything_again(fitted):
    network = network_of(fitted)
    frozen = network.frozen
    if frozen.family.kind == "encoder-decoder":
        expected = _greedy_without_cache_both(fitted)
    else:
        expected = _greedy_without_cache(fitted)
    assert fitted.predict(SOURCES).tolist() == expected


def _greedy_without_cache(fitted):
    from sklopa._backbone.lm_head import end_ids

    network = network_of(fitted)
    frozen, texts = network.frozen, []
    rows = rows_of(fitted, SOURCES)
    for i in range(len(SOURCES)):
        embeds = network.inputs(rows.batch(np.array([i]))).embeds
        ids = []
        for _ in range(fitted.max_new_tokens):
            with torch.no_grad():
                token = int(frozen.model(inputs_embeds=embeds).logits[0, -1].argmax())
            if token in end_ids(frozen):
                break
            ids.append(token)
            embeds = torch.cat([embeds, frozen.embed(torch.tensor([[token]]))], dim=1)
        texts.append(frozen.tokenizer.decode(ids, skip_special_tokens=True))
    return texts


def _greedy_without_cache_both(fitted):
    from sklopa._backbone.lm_head import end_ids

    network = network_of(fitted)
    frozen, texts = network.frozen, []
    rows = rows_of(fitted, SOURCES)
    for i in range(len(SOURCES)):
        embeds = network.inputs(rows.batch(np.array([i]))).embeds
        read = [frozen.config.decoder_start_token_id]
        for _ in range(fitted.max_new_tokens):
            with torch.no_grad():
                out = frozen.model(inputs_embeds=embeds, decoder_input_ids=torch.tensor([read]))
            token = int(out.logits[0, -1].argmax())
            if token in end_ids(frozen):
                break
            read.append(token)
        texts.append(frozen.tokenizer.decode(read[1:], skip_special_tokens=True))
    return texts


def test_log_likelihood_does_not_depend_on_the_batch_and_is_the_models_own(fitted):
    together = fitted.log_likelihood(SOURCES, TARGETS)
    pairs = zip(SOURCES, TARGETS, strict=True)
    alone = [fitted.log_likelihood([x], [y])[0] for x, y in pairs]
    np.testing.assert_allclose(together, alone, atol=1e-4)
    assert (together < 0).all()


def test_log_likelihood_equals_a_plain_restatement(llama):
    network = network_of(llama)
    frozen = network.frozen
    rows = rows_of(llama, SOURCES[:1])
    embeds = network.inputs(rows.batch(np.array([0]))).embeds
    target = frozen.tokenizer(TARGETS[0])["input_ids"] + [frozen.tokenizer.eos_token_id]
    total = 0.0
    for token in target:
        with torch.no_grad():
            log_p = frozen.model(inputs_embeds=embeds).logits[0, -1].log_softmax(-1)
        total += float(log_p[token])
        embeds = torch.cat([embeds, frozen.embed(torch.tensor([[token]]))], dim=1)
    ours = llama.log_likelihood(SOURCES[:1], TARGETS[:1])[0]
    assert ours == pytest.approx(total / len(target), abs=1e-4)


def test_training_raises_the_likelihood_and_learns_the_end(llama):
    untrained = make(max_iter=1, learning_rate=1e-9).fit(SOURCES, TARGETS)
    before, after = (m.log_likelihood(SOURCES, TARGETS).mean() for m in (untrained, llama))
    assert after > before + 0.5


def test_samples_have_their_shape_repeat_by_seed_and_read_each_source_once(llama, monkeypatch):
    one, two = llama.sample(SOURCES, 4), llama.sample(SOURCES, 4)
    assert one.shape == (len(SOURCES), 4)
    assert (one == two).all()
    assert len({*one[0]}) > 1
    base = network_of(llama).frozen.base
    read = []
    monkeypatch.setattr(
        base, "forward",
        lambda *a, _forward=base.forward, **k: read.append(k["inputs_embeds"].shape[:2])
        or _forward(*a, **k),
    )  # fmt: skip
    llama.sample(SOURCES, 4)
    assert max(rows for rows, length in read if length > 1) <= llama.batch_size


def test_nearly_no_temperature_is_greedy(llama):
    cold = pickle.loads(pickle.dumps(llama.get_params() | {"model": None})) | {"model": llama.model}
    model = LoPAGenerator(**cold).set_params(temperature=1e-4)
    model.__dict__.update({k: v for k, v in vars(llama).items() if k not in cold})
    assert (model.sample(SOURCES, 2)[:, 0] == llama.predict(SOURCES)).all()


def test_stop_texts_are_cut_off_with_all_behind_them():
    model = make(max_new_tokens=12).fit(SOURCES, TARGETS)
    whole = model.predict(SOURCES)[0]
    stop = whole.split()[1]
    assert model.set_params(stop=stop).predict(SOURCES)[0] == whole[: whole.index(stop)]


def test_global_generator_is_left_alone(llama):
    before = torch.get_rng_state()
    llama.sample(SOURCES, 2)
    assert torch.equal(torch.get_rng_state(), before)


def test_refit_equals_fit_and_a_pickle_predicts_the_same(tmp_path):
    folder = tiny.save(tmp_path, "llama")
    options = {"prompt_length": 3, "rank": 2, "bottleneck": 8, "max_iter": 2, "random_state": 0}
    model = LoPAGenerator(folder, max_new_tokens=4, **options).fit(SOURCES, TARGETS)
    expected = model.log_likelihood(SOURCES, TARGETS)
    data = pickle.dumps(model)
    assert len(data) < 2 * 4 * model.n_trainable_parameters_ + 100_000
    np.testing.assert_array_equal(pickle.loads(data).log_likelihood(SOURCES, TARGETS), expected)
    np.testing.assert_array_equal(
        model.fit(SOURCES, TARGETS).log_likelihood(SOURCES, TARGETS), expected
    )


def test_without_a_prompt_the_frozen_model_answers():
    model = make(prompt_length=0).fit(SOURCES, TARGETS)
    assert model.n_trainable_parameters_ == 0
    assert len(model.predict(SOURCES)) == len(SOURCES)


def test_empty_and_blank_targets_are_learned_as_they_are():
    model = make(max_iter=1).fit(SOURCES, ["", "   ", "yes", "", "no"])
    assert np.isfinite(model.log_likelihood(SOURCES, ["", "   ", "yes", "", "no"])).all()


def test_target_over_its_limit_is_cut_with_a_warning():
    with pytest.warns(TruncationWarning, match=r"1 of 5 targets .* max_target_length"):
        make(max_iter=1, max_target_length=3).fit(SOURCES, TARGETS)


def test_source_over_the_limit_leaves_room_for_prompt_and_answer():
    long = ["good " * 200, *SOURCES[1:]]
    with pytest.warns(TruncationWarning, match="1 of 5 texts"):
        model = make(max_iter=1).fit(long, TARGETS)
    assert model.n_truncated_ == 1
    with pytest.warns(TruncationWarning):
        assert isinstance(model.predict(long[:1])[0], str)


def test_masked_language_model_is_refused_with_what_works():
    model = LoPAGenerator(tiny.backbone("bert"), prompt_length=3, rank=2)
    with pytest.raises(UnsupportedBackbone, match=r"bert encoder.*causal"):
        model.fit(SOURCES, TARGETS)


def test_targets_that_are_no_texts_are_named():
    with pytest.raises(InvalidType, match="row 1 is 3"):
        make().fit(SOURCES, ["a", 3, "b", "c", "d"])
    with pytest.raises(InvalidType, match="y must hold one value for each row"):
        make().fit(SOURCES, "a text")
    with pytest.raises(InvalidInput, match="X has 5 rows and y has 2"):
        make().fit(SOURCES, TARGETS[:2])


def test_chat_template_wraps_the_source_and_can_be_left_out():
    made, tokenizer = tiny.model("llama")
    tokenizer.chat_template = "{% for m in messages %}the {{ m['content'] }} {% endfor %}and it"
    backbone = Backbone.from_objects(made, tokenizer)
    options = {"prompt_length": 2, "rank": 1, "bottleneck": 4, "max_iter": 1}
    wrapped = LoPAGenerator(backbone, **options).fit(SOURCES, TARGETS)
    expected = Template("{text}", special_tokens=False, before="the ", joint="\n", behind=" and it")
    assert design_of(wrapped).template == expected
    bare = LoPAGenerator(backbone, chat_template=None, **options).fit(SOURCES, TARGETS)
    assert design_of(bare).template is None


def test_grid_search_by_exact_match_and_by_log_likelihood():
    from sklearn.model_selection import GridSearchCV

    from sklopa.metrics import log_likelihood_scorer

    texts, targets = SOURCES * 2, TARGETS * 2
    grid = {"rank": [0, 1], "prompt_length": [2]}
    for scoring in (None, log_likelihood_scorer):
        search = GridSearchCV(make(max_iter=1), grid, cv=2, scoring=scoring).fit(texts, targets)
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_frozen_weights_stay_as_they_are(llama):
    fresh, _ = tiny.model("llama")
    frozen = live_model(llama.model).model
    for (name, ours), theirs in zip(
        frozen.state_dict().items(), fresh.state_dict().values(), strict=True
    ):
        assert ours.equal(theirs), name


@pytest.mark.parametrize("n_samples", [0, -1, "2", 1.5])
def test_sample_wants_a_number_of_samples(llama, n_samples):
    with pytest.raises(InvalidParameter, match=r"n_samples must be an integer >= 1; got"):
        llama.sample(SOURCES, n_samples)


def test_room_for_what_is_written_is_counted_before_anything_is_read(tmp_path):
    room = tiny.POSITIONS
    fitting = make("gpt2", max_new_tokens=room - 4).fit(SOURCES, TARGETS)  # 3 rows and one token
    fitting.save(tmp_path / "full.zip")
    restored = sklopa.load(tmp_path / "full.zip", backbone=fitting.model)
    assert restored.predict(SOURCES).tolist() == fitting.predict(SOURCES).tolist()
    for name in ("max_new_tokens", "max_target_length"):
        with pytest.raises(InvalidParameter, match=f"{name}.*kept for what is written"):
            make("gpt2", **{name: room - 3}).fit(SOURCES, TARGETS)


@pytest.mark.parametrize("given", ["instance", "global"])
def test_greedy_texts_move_no_random_generator(llama, given):
    before = llama.random_state
    state = np.random.RandomState(0) if given == "instance" else None
    llama.set_params(random_state=state)
    try:
        source = np.random if state is None else state
        old = source.get_state()[2]
        llama.predict(SOURCES[:2])
        assert source.get_state()[2] == old
    finally:
        llama.set_params(random_state=before)


def test_log_likelihood_tells_of_texts_that_lost_their_end(llama):
    with pytest.warns(TruncationWarning, match="1 of 1 texts"):
        llama.log_likelihood(["good film " * 200], ["yes"])


def test_more_new_tokens_than_there_is_room_for_are_refused_at_predict(llama):
    before = llama.max_new_tokens
    llama.set_params(max_new_tokens=1000)
    try:
        with pytest.raises(InvalidParameter, match=r"max_new_tokens.*leave room"):
            llama.predict(SOURCES)
    finally:
        llama.set_params(max_new_tokens=before)
