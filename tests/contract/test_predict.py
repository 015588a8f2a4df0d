"""A row does not see its neighbours, each part does its work, and nothing is left behind."""

import json
import os
import random
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
import transformers
from helpers import CLOSE, COLOURS, design_of, network_of, weights_of

import sklopa
from sklopa import Backbone, LoPAClassifier
from sklopa._loading.live import live_model
from sklopa._tokens.texts import TextReader

# ---------------------------------------------------------------- nothing is computed twice


@pytest.fixture
def rows_through(monkeypatch):
    """How many rows go through each layer of a network, and how many are tokenised."""

    def watch(clf):
        layers, seen = network_of(clf).frozen.layers, {}
        for i, layer in enumerate(layers):
            seen[i] = 0

            def count(module, arguments, options, output, i=i):
                states = arguments[0] if arguments else options["hidden_states"]
                seen[i] += len(states)

            layer.register_forward_hook(count, with_kwargs=True)
        tokenise, seen["tokenised"] = TextReader._tokenize, 0

        def counted(self, rows):
            seen["tokenised"] += len(rows)
            return tokenise(self, rows)

        monkeypatch.setattr(TextReader, "_tokenize", counted)
        return seen

    return watch


@pytest.mark.parametrize(
    ("options", "passes"),
    [({}, (2, 2)), ({"prompt_layer": 1}, (1, 2)), ({"rank": 0}, (1, 1)),
     ({"rank": 0, "prompt_layer": 1}, (1, 1)), ({"prompt_length": 0}, (1, 1))],
)  # fmt: skip
def test_a_text_goes_through_a_layer_once_without_the_prompt_and_once_behind_it(
    make_classifier, reviews, rows_through, options, passes
):
    made, reader = tiny.model("bert", seed=11)  # hooks are of this test alone
    backbone = Backbone.from_objects(made, reader)
    clf = make_classifier(model=backbone, max_iter=1, **options).fit(*reviews)
    texts = [f"a {colour} film and a {word} book" for colour in COLOURS for word in COLOURS]
    seen = rows_through(clf)
    first = clf.predict_proba(texts)
    assert seen == {0: passes[0] * 9, 1: passes[1] * 9, "tokenised": 9}
    for layer in (0, 1):
        seen[layer] = 0
    np.testing.assert_array_equal(clf.predict_proba(texts), first)
    behind = 0 if options.get("prompt_length") == 0 else 9
    below = 0 if options.get("prompt_layer") else behind  # the states there are known
    assert seen == {0: below, 1: behind, "tokenised": 9}


# ---------------------------------------------------------------- rows do not see each other


@pytest.mark.parametrize("method", ["decision_function", "predict", "predict_proba", "transform"])
def test_permuting_rows_permutes_the_results(fitted3, colours, method):
    texts = colours[0]
    order = np.random.RandomState(0).permutation(len(texts))
    run = getattr(fitted3, method)
    expected, got = run(texts)[order], run([texts[i] for i in order])
    if method == "predict":
        np.testing.assert_array_equal(got, expected)
    else:
        np.testing.assert_allclose(got, expected, **CLOSE)


def test_splitting_rows_splits_the_results(fitted3, colours):
    texts = colours[0]
    together = fitted3.decision_function(texts)
    alone = np.concatenate([fitted3.decision_function([text]) for text in texts])
    np.testing.assert_allclose(alone, together, **CLOSE)
    assert [fitted3.predict([text])[0] for text in texts] == fitted3.predict(texts).tolist()


@pytest.mark.parametrize("batch_size", [1, 3, 1000])
def test_predict_does_not_depend_on_batch_size(make_classifier, colours, batch_size):
    texts = colours[0]
    clf = make_classifier(max_iter=1).fit(*colours)
    expected, prompts = clf.decision_function(texts), clf.generate_prompts(texts)
    clf.set_params(batch_size=batch_size)
    np.testing.assert_allclose(clf.decision_function(texts), expected, **CLOSE)
    np.testing.assert_allclose(clf.generate_prompts(texts), prompts, **CLOSE)


def test_blocks_of_rows_give_what_all_rows_at_once_give(fitted3, colours, monkeypatch):
    whole = fitted3.predict_proba(colours[0])
    monkeypatch.setattr("sklopa._network.fitted.BLOCK_ROWS", 4)
    np.testing.assert_allclose(fitted3.predict_proba(colours[0]), whole, atol=1e-5)


def test_predict_twice_gives_the_same_bits(fitted3, colours):
    np.testing.assert_array_equal(
        fitted3.decision_function(colours[0]), fitted3.decision_function(colours[0])
    )


def test_predicting_changes_nothing_of_the_estimator(fitted3, colours):
    before = dict(vars(fitted3))
    for method in ("predict", "predict_proba", "transform", "generate_prompts"):
        getattr(fitted3, method)(colours[0][:5])
    assert all(vars(fitted3)[name] is value for name, value in before.items())
    assert vars(fitted3).keys() == before.keys()


def test_repeated_texts_get_equal_results(fitted3):
    logits = fitted3.decision_function(["red book", "blue film", "red book"])
    np.testing.assert_allclose(logits[0], logits[2], **CLOSE)


# ---------------------------------------------------------------- what the parts do


def test_without_a_prompt_it_is_a_linear_probe(make_classifier, colours):
    texts, labels = colours
    clf = make_classifier(prompt_length=0, max_iter=20, learning_rate=0.02).fit(texts, labels)
    assert clf.n_trainable_parameters_ == 3 * (2 * tiny.WIDTH + 1)  # two views of a text
    assert clf.generate_prompts(texts).shape == (len(texts), 0, tiny.WIDTH)
    assert clf.score(texts, labels) > 0.6
    other = make_classifier(prompt_length=0, max_iter=1).fit(texts, labels)
    np.testing.assert_allclose(clf.transform(texts), other.transform(texts), **CLOSE)


def test_rank_zero_is_one_prompt_for_all_texts(make_classifier, colours):
    texts, labels = colours
    clf = make_classifier(rank=0).fit(texts, labels)
    prompts = clf.generate_prompts(texts)
    assert (prompts == prompts[0]).all()
    assert clf.n_trainable_parameters_ == 3 * tiny.WIDTH + 3 * (tiny.WIDTH + 1)


@pytest.mark.parametrize("gate", ["sigmoid", "add", "max", "concat", "instance"])
def test_every_gate_makes_a_prompt_for_each_text_and_learns(make_classifier, colours, gate):
    texts, labels = colours
    clf = make_classifier(gate=gate, learning_rate=1e-2, dropout=0.0, max_iter=10)
    clf.fit(texts, labels)
    prompts = clf.generate_prompts(texts)
    assert prompts.shape == (len(texts), 6 if gate == "concat" else 3, tiny.WIDTH)
    assert prompts.dtype == np.float32
    assert (prompts[0] != prompts[1]).any()
    assert clf.loss_curve_[-1] < clf.loss_curve_[0]


def test_trained_values_are_counted(make_classifier, colours):
    P, R, H, D, C = 3, 2, 8, tiny.WIDTH, 3
    networks = 2 * (D * H + H) + (H * P * R + P * R) + (H * D * R + D * R)
    clf = make_classifier(max_iter=1).fit(*colours)
    head = C * (3 * D + 1)  # states behind the prompt, and two views of the text
    assert clf.n_trainable_parameters_ == P * D + networks + head
    stored = sum(value.size for value in weights_of(clf).values())
    assert stored == clf.n_trainable_parameters_ + 1  # and the unit that Z_S is counted in


def test_fit_changes_no_weight_of_the_backbone(make_classifier, reviews):
    backbone = tiny.backbone()
    model = backbone.objects[0]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    make_classifier(learning_rate=0.1).fit(*reviews)
    make_classifier(
        learning_rate=0.1, head="verbalizer", verbalizer={"pos": "good", "neg": "bad"}
    ).fit(*reviews)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not any(p.grad is not None for p in model.parameters())


def test_another_backbone_can_be_the_encoder(make_classifier, reviews):
    encoder = Backbone.from_objects(*tiny.model("bert", hidden_size=16, seed=1))
    clf = make_classifier(encoder=encoder, learning_rate=1e-2, max_iter=10).fit(*reviews)
    assert clf.loss_curve_[-1] < clf.loss_curve_[0]
    assert clf.transform(["good"]).shape == (1, tiny.WIDTH)
    prompts = clf.generate_prompts(["good", "bad"])
    assert (prompts[0] != prompts[1]).any()
    own = make_classifier(learning_rate=1e-2, max_iter=1).fit(*reviews)
    # The first layers of both networks read 16 values and not 32; the head reads two views.
    fewer = 2 * 16 * 8 + 2 * 2 * 16
    assert clf.n_trainable_parameters_ == own.n_trainable_parameters_ - fewer


def test_train_encoder_trains_a_copy_and_leaves_the_backbone(make_classifier, reviews):
    backbone = tiny.backbone()
    model = live_model(backbone).model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    clf = make_classifier(train_encoder=True, learning_rate=1e-2).fit(*reviews)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    body = {k.removeprefix("encoder.body."): v for k, v in weights_of(clf).items() if "body" in k}
    changed = [k for k, v in body.items() if (v != before[f"bert.{k}"].numpy()).any()]
    assert len(changed) > 10
    assert clf.n_trainable_parameters_ > sum(p.numel() for p in model.base_model.parameters())


@pytest.mark.parametrize("model_type", ["bert", "gpt2"])
def test_verbalizer_reads_label_words_and_trains_the_prompt_alone(
    make_classifier, reviews, model_type
):
    texts, labels = reviews
    clf = make_classifier(
        model=tiny.backbone(model_type), head="verbalizer", rank=0, max_iter=15,
        template="the {text} it was {mask}" if model_type == "bert" else "the {text} it was",
        verbalizer={"pos": "good", "neg": "bad"}, learning_rate=1e-2,
    ).fit(texts, labels)  # fmt: skip
    assert clf.n_trainable_parameters_ == 3 * tiny.WIDTH
    assert clf.loss_curve_[-1] < clf.loss_curve_[0]
    assert clf.predict_proba(texts).shape == (len(texts), 2)
    assert set(clf.predict(texts)) <= {"pos", "neg"}


@pytest.mark.parametrize("model_type", ["bert", "gpt2"])
def test_verbalizer_without_a_prompt_is_the_language_model_itself(make_classifier, model_type):
    model, tokenizer = tiny.backbone(model_type).objects
    clf = make_classifier(model=tiny.backbone(model_type), head="verbalizer", prompt_length=0)
    clf.fit(["good film", "bad plot"], ["good", "bad"])
    assert clf.n_trainable_parameters_ == 0
    assert clf.n_iter_ == 0
    text = "the film [MASK]" if model_type == "bert" else "the film"
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    place = ids[0].tolist().index(tokenizer.mask_token_id) if model_type == "bert" else -1
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, place]
    good, bad = tokenizer.convert_tokens_to_ids(["good", "bad"])
    np.testing.assert_allclose(
        clf.decision_function(["the film"]), [float(logits[good] - logits[bad])], **CLOSE
    )


def test_generated_prompts_do_change_the_logits(fitted3, colours):
    from sklopa._network.prepare import prepare_rows

    network = network_of(fitted3)
    rows, _ = prepare_rows(network, design_of(fitted3), colours[0])
    batch = rows.batch(np.arange(len(colours[0])))
    with torch.no_grad():
        prompts = network.prompts(batch)
        logits = network(batch).numpy()
        zeroed = network.outputs_behind(torch.zeros_like(prompts), batch).numpy()
    np.testing.assert_allclose(fitted3.generate_prompts(colours[0]), prompts.numpy(), **CLOSE)
    np.testing.assert_allclose(fitted3.decision_function(colours[0]), logits, **CLOSE)
    assert np.abs(logits - zeroed).max() > 1e-3


# ---------------------------------------------------------------- nothing is left behind


def test_global_state_is_left_as_found(tiny_folder, reviews):
    Backbone(tiny_folder).release()
    levels = transformers.utils.logging
    found_level, found_bars = levels.get_verbosity(), levels.is_progress_bar_enabled()
    levels.set_verbosity_info()
    levels.enable_progress_bar()
    torch.manual_seed(7)
    np.random.seed(7)

    def state():
        return {
            "torch": torch.get_rng_state().tolist(),
            "numpy": [str(part) for part in np.random.get_state()],
            "random": random.getstate(),
            "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
            "level": levels.get_verbosity(),
            "bars": levels.is_progress_bar_enabled(),
            "warnings": list(warnings.filters),
            "environment": dict(os.environ),
            "grad": torch.is_grad_enabled(),
            "dtype": torch.get_default_dtype(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
        }

    try:
        before = state()
        clf = LoPAClassifier(
            tiny_folder, prompt_length=3, rank=2, bottleneck=8, max_iter=2, random_state=0,
            early_stopping=True, train_encoder=True,
        ).fit(*reviews)  # fmt: skip
        clf.predict(reviews[0])
        after = state()
    finally:
        levels.set_verbosity(found_level)
        (levels.enable_progress_bar if found_bars else levels.disable_progress_bar)()
        Backbone(tiny_folder).release()
    for name, value in before.items():
        assert after[name] == value, name


def test_loading_a_checkpoint_that_lacks_weights_leaves_the_global_seed(tmp_path):
    model, tokenizer = tiny.model("bert")
    model.save_pretrained(tmp_path)  # a masked language model has no pooler
    tokenizer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["architectures"] = ["BertModel"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    torch.manual_seed(7)
    before = torch.get_rng_state()
    live_model(Backbone(tmp_path))
    assert torch.equal(torch.get_rng_state(), before)


_QUIET_FIT = """
import json, socket, sys

def refuse(self, address):
    raise AssertionError(f"a connection to {address} was asked for")

socket.socket.connect = socket.socket.connect_ex = refuse
from sklopa import LoPAClassifier

texts, labels = json.loads(sys.argv[2])
clf = LoPAClassifier(sys.argv[1], prompt_length=3, rank=2, bottleneck=8, max_iter=1)
print(clf.fit(texts, labels).score(texts, labels))
"""


def test_fit_writes_no_file_and_asks_for_no_connection(tiny_folder, reviews, tmp_path):
    places = {name: tmp_path / name for name in ("cwd", "home", "tmp")}
    for place in places.values():
        place.mkdir()
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HF_", "XDG_", "TRANSFORMERS_", "TORCH"))
    }
    environment |= {
        "HOME": str(places["home"]), "USERPROFILE": str(places["home"]),
        "TMPDIR": str(places["tmp"]), "TEMP": str(places["tmp"]),
        "PYTHONPATH": str(Path(sklopa.__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    found = {path: path.stat().st_mtime_ns for path in Path(tiny_folder).rglob("*")}
    done = subprocess.run(
        [sys.executable, "-c", _QUIET_FIT, tiny_folder, json.dumps(reviews)],
        cwd=places["cwd"], env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # torch leaves an empty folder of its own in TMPDIR when it makes an optimizer.
    assert not [path for place in places.values() for path in place.rglob("*") if path.is_file()]
    assert not [path for place in ("cwd", "home") for path in places[place].rglob("*")]
    assert {path: path.stat().st_mtime_ns for path in Path(tiny_folder).rglob("*")} == found
