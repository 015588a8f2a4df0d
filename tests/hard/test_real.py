"""The packaged real weights: MiniLM for the classifier, SmolLM2 for the generator."""

import ast
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV, train_test_split

from sklopa import LoPAClassifier, LoPAGenerator, cache_clear, cache_info, load_model
from sklopa._loading.description import Backbone
from sklopa._loading.live import live_model
from sklopa._loading.packaged import find_demo_model
from sklopa.datasets import load_intents

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def intents():
    texts, labels = load_intents(return_X_y=True)
    return train_test_split(texts, labels, test_size=0.5, stratify=labels, random_state=0)


def test_defaults_sort_messages_that_they_have_not_seen(intents):
    X_train, X_test, y_train, y_test = intents
    model = LoPAClassifier(random_state=0).fit(X_train, y_train)
    assert model.score(X_test, y_test) > 0.85
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X_test), model.predict_proba(X_test))
    trained_bytes = 4 * model.n_trainable_parameters_
    assert len(pickle.dumps(model)) < 2 * trained_bytes + 100_000


def test_features_without_a_prompt_are_the_published_mean_pooling(intents):
    texts = intents[1][:5]
    frozen = live_model(Backbone(LoPAClassifier().model))
    encoded = frozen.tokenizer(list(texts), padding=True, return_tensors="pt")
    with torch.inference_mode():
        states = frozen.model(**encoded).last_hidden_state
    mask = encoded["attention_mask"].unsqueeze(-1)
    expected = ((states * mask).sum(1) / mask.sum(1)).numpy()
    probe = LoPAClassifier(prompt_length=0).fit(intents[0], intents[2])
    np.testing.assert_allclose(probe.transform(texts), expected, atol=1e-5)


def test_a_search_embeds_each_text_once(intents):
    X_train, _, y_train, _ = intents
    cache_clear()
    model = LoPAClassifier(max_iter=1, random_state=0)
    GridSearchCV(model, {"rank": [1, 2], "prompt_length": [4]}, cv=2).fit(X_train, y_train)
    assert cache_info().misses == len(set(X_train))


SOURCES = [
    "name[The Eagle], food[French]",
    "name[Aromi], eatType[pub], near[the riverside], customer rating[5 out of 5]",
    "name[Cotto]",
    "name[The Mill], food[Indian], area[city centre]",
]
TARGETS = [
    "The Eagle serves French food.",
    "Aromi is a pub near the riverside that is rated 5 out of 5.",
    "Cotto.",
    "The Mill serves Indian food in the city centre.",
]


@pytest.fixture(scope="module")
def generator():
    """A generator on real weights, built once for all tests."""
    pytest.importorskip("gguf", reason="the extra gguf reads the packaged weights")
    model = LoPAGenerator(max_iter=20, max_new_tokens=12, batch_size=4, random_state=0)
    return model.fit(SOURCES, TARGETS)


def test_what_quantised_weights_take_is_told_once_in_a_process():
    pytest.importorskip("gguf", reason="the extra gguf reads the packaged weights")
    code = (
        "import warnings, sklopa\n"
        "model = sklopa.Backbone(sklopa.LoPAGenerator().model, dtype='float32')\n"
        "with warnings.catch_warnings(record=True) as told:\n"
        "    warnings.simplefilter('always')\n"
        "    for _ in range(2):\n"
        "        sklopa.load_model(model)\n"
        "        sklopa.Backbone.release_all()\n"
        "print([str(w.message) for w in told if 'quantised' in str(w.message)])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (message,) = ast.literal_eval(done.stdout.splitlines()[-1])
    assert "expanded to torch.float32 and take 513 MiB" in message


def test_defaults_train_fewer_parameters_than_lora_does(generator):
    """Than r = 8 on query and value of the same model."""
    config = load_model(generator.model)[0].config
    width, narrow = config.hidden_size, config.num_key_value_heads * config.head_dim
    lora = config.num_hidden_layers * 8 * (width + width + width + narrow)
    assert generator.n_trainable_parameters_ < lora


def test_training_raises_the_likelihood_of_the_targets(generator):
    frozen = LoPAGenerator(prompt_length=0).fit(SOURCES, TARGETS)
    before, after = (m.log_likelihood(SOURCES, TARGETS).mean() for m in (frozen, generator))
    assert after > before + 0.3
    assert generator.loss_curve_[-1] < generator.loss_curve_[0]


def test_real_rows_generate_the_same_alone_and_together(generator):
    together = generator.predict(SOURCES)
    alone = [generator.predict([source])[0] for source in SOURCES]
    assert together.tolist() == alone


def test_a_pickle_of_a_real_generator_writes_the_same(generator):
    again = pickle.loads(pickle.dumps(generator))
    assert again.predict(SOURCES[:2]).tolist() == generator.predict(SOURCES[:2]).tolist()
    assert len(pickle.dumps(generator)) < 8 * generator.n_trainable_parameters_ + 100_000


CLIENT = """
import json, pickle, re, sys
opened = set()
sys.addaudithook(lambda event, args: opened.add(str(args[0])) if event == "open" else None)
from sklopa.serving import PromptClient
with open(sys.argv[1], "rb") as handle:
    model = pickle.load(handle)
client = PromptClient(model, "http://localhost:1", api=sys.argv[2])
made = client.messages(["name[Zizzi]"]) if sys.argv[2] == "chat" else client._writer.frozen
with open("/proc/self/maps") as handle:
    opened |= {line.split()[-1] for line in handle}
with open("/proc/self/status") as handle:
    peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", handle.read())[1])
print(json.dumps({"opened": sorted(opened), "peak": peak / 1024}))
"""


def test_a_client_of_messages_opens_nothing_of_the_foundation_model_and_stays_small(tmp_path):
    pytest.importorskip("gguf", reason="the extra gguf reads the packaged weights")
    model = LoPAGenerator(encoder=LoPAClassifier().model, max_iter=1, batch_size=2, random_state=0)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(model.fit(SOURCES[:2], TARGETS[:2])))
    folder = find_demo_model(model.model)
    found = {}
    for api in ("chat", "completions"):
        command = [sys.executable, "-c", CLIENT, str(tmp_path / "model.pkl"), api]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[api] = json.loads(done.stdout.splitlines()[-1])
    within = {
        api: [p for p in said["opened"] if p.startswith(f"{folder}/") and not p.endswith(".pyc")]
        for api, said in found.items()
    }
    assert within["chat"] == []
    assert within["completions"]  # which reads the word embeddings there
    assert found["chat"]["peak"] < 700
