"""What a client writes: the frozen model's own input, from its word embeddings alone."""

import base64
import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
import tiny
import torch
from fake_server import decode_embeds
from helpers import design_of, raises, rows_of, weights_of
from safetensors import safe_open
from safetensors.torch import save_file

from sklopa import Backbone, LoPAClassifier, LoPAGenerator
from sklopa._backbone.families import FAMILIES
from sklopa._loading.live import live_model
from sklopa._network.build import fill_network
from sklopa.errors import UnsupportedBackbone, WholeModelWarning
from sklopa.serving import PromptClient
from sklopa.serving.embedding_table import embeddings_only
from sklopa.serving.prompt_writer import embeds_and_salt

SOURCES = ["good film", "bad book", "the very awful plot and it was not good", "red"]
TARGETS = ["yes", "no", "no no maybe", "yes yes"]
ADDRESS = "http://localhost:1"  # where nothing is, and nothing is asked
LARGE = 192 << 20  # bytes of a body that a client must not load


def make(folder, encoder, **options):
    options = {
        "prompt_length": 3, "rank": 2, "bottleneck": 8, "max_iter": 2, "random_state": 0,
        "max_new_tokens": 5, "encoder": encoder,
    } | options  # fmt: skip
    return LoPAGenerator(folder, **options).fit(SOURCES, TARGETS)


@pytest.fixture(scope="module")
def llama_folder(tmp_path_factory):
    return tiny.save(tmp_path_factory.mktemp("llama"), "llama")


@pytest.fixture(scope="module")
def generator(llama_folder, tiny_folder):
    return make(llama_folder, tiny_folder)


DECODERS = [name for name, family in FAMILIES.items() if family.kind == "decoder"]


@pytest.mark.parametrize("family", [name for name in DECODERS if tiny.is_known(name)])
def test_word_embeddings_are_those_of_the_whole_model(tmp_path, family):
    backbone = Backbone(tiny.save(tmp_path, family))
    ids = torch.arange(50).unsqueeze(0)
    with torch.no_grad():
        found = live_model(embeddings_only(backbone, "float32")).embed(ids)
        assert torch.equal(found, live_model(backbone).embed(ids))


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma", "opt"])
def test_written_tensors_are_what_the_whole_model_reads(tmp_path, tiny_folder, family):
    generator = make(tiny.save(tmp_path, family), tiny_folder)
    written = PromptClient(generator, ADDRESS).to_prompt_embeds(SOURCES)
    network = fill_network(design_of(generator), weights_of(generator))
    rows = rows_of(generator, SOURCES)
    for i, one in enumerate(written):
        with torch.inference_mode():
            expected = network.inputs(rows.batch(np.array([i]))).embeds[0]
        torch.testing.assert_close(one.tensor, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("rank", [0, 2])
def test_no_weight_but_the_word_embeddings_is_read(llama_folder, tiny_folder, rank):
    generator = make(llama_folder, tiny_folder, rank=rank)
    Backbone.release_all()
    model = PromptClient(generator, ADDRESS)._writer.frozen.model
    assert [n for n, p in model.named_parameters() if not p.is_meta] == [
        "model.embed_tokens.weight"
    ]


def test_running_a_model_of_embeddings_alone_fails_loudly(llama_folder):
    frozen = live_model(embeddings_only(Backbone(llama_folder), "float32"))
    with pytest.raises((RuntimeError, NotImplementedError)):
        frozen.model(inputs_embeds=frozen.embed(torch.tensor([[7, 8]]))).logits.numpy()


def test_bodies_decode_to_the_tensors_by_the_servers_rules(generator):
    for one in PromptClient(generator, ADDRESS).to_prompt_embeds(SOURCES):
        body = json.loads(json.dumps(one.body))
        read = decode_embeds(body["prompt_embeds"].encode(), tiny.WIDTH, torch.float32)
        assert torch.equal(read, one.tensor)
        assert len(base64.b64decode(body["prompt_embeds"])) < one.tensor.nbytes + 2000
        assert body["prompt"] is None
        assert (body["temperature"], body["max_tokens"]) == (0.0, 5)


def test_different_prompts_never_share_a_place_in_a_prefix_cache(generator):
    written = PromptClient(generator, ADDRESS).to_prompt_embeds([*SOURCES, SOURCES[0]])
    salts = [one.body["cache_salt"] for one in written]
    assert salts[0] == salts[-1]
    assert len(set(salts)) == len(SOURCES)


def test_precision_is_that_of_the_frozen_model(llama_folder, tiny_folder):
    generator = make(Backbone(llama_folder, dtype="bfloat16"), tiny_folder)
    (one,) = PromptClient(generator, ADDRESS).to_prompt_embeds(["red"])
    assert one.tensor.dtype == torch.bfloat16
    assert len(one.body["prompt_embeds"]) < 4 / 3 * one.tensor.nbytes + 3000


def test_a_table_is_found_in_shards_and_under_other_names(tmp_path, llama_folder):
    expected = live_model(Backbone(llama_folder)).embedding.weight
    with safe_open(f"{llama_folder}/model.safetensors", "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    table = {"embed_tokens.weight": tensors.pop("model.embed_tokens.weight")}
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        with open(f"{llama_folder}/{name}") as file:
            (tmp_path / name).write_text(file.read())
    save_file(table, tmp_path / "b.safetensors")  # the other shard is not even there
    places = dict.fromkeys(tensors, "a.safetensors") | dict.fromkeys(table, "b.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    found = live_model(embeddings_only(Backbone(tmp_path), "float32")).embedding.weight
    assert torch.equal(found, expected)


def test_checkpoint_without_a_table_of_its_own_is_refused(tmp_path, llama_folder):
    made, reader = tiny.model("llama")
    made.config.save_pretrained(tmp_path)
    reader.save_pretrained(tmp_path)
    torch.save(made.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(UnsupportedBackbone, match=r"no safetensors file .* save_pretrained"):
        embeddings_only(Backbone(tmp_path), "float32")
    save_file({"model.embed_tokens.weight": torch.zeros(3, 4)}, tmp_path / "model.safetensors")
    with pytest.raises(UnsupportedBackbone, match=r"holds \(3, 4\) and the model computes \("):
        embeddings_only(Backbone(tmp_path), "float32")


def test_a_client_that_needs_the_whole_model_says_so(llama_folder):
    generator = make(llama_folder, None)
    with pytest.warns(WholeModelWarning, match=r"encoder=None.*small encoder=.*rank=0"):
        PromptClient(generator, ADDRESS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PromptClient(make(llama_folder, None, rank=0), ADDRESS)


def test_what_no_server_can_do_is_refused_with_what_it_can(reviews, generator, llama_folder):
    texts, labels = reviews
    options = {"prompt_length": 2, "rank": 0, "max_iter": 1}
    linear = LoPAClassifier(llama_folder, **options).fit(texts, labels)
    with raises(ValueError, "LoPAClassifier", "cannot be served", "head='verbalizer'"):
        PromptClient(linear, ADDRESS)
    masked = LoPAClassifier(
        tiny.backbone(), head="verbalizer", verbalizer={"pos": "yes", "neg": "no"}, **options
    )
    with raises(ValueError, "causal language model"):
        PromptClient(masked.fit(texts, labels), ADDRESS)
    both = LoPAGenerator(tiny.backbone("t5"), **options).fit(SOURCES, TARGETS)
    with raises(ValueError, "LoPAGenerator", "causal language model"):
        PromptClient(both, ADDRESS)
    deep = LoPAGenerator(tiny.backbone("llama"), depth="deep", **options).fit(SOURCES, TARGETS)
    with raises(ValueError, "depth='deep'", "depth='shallow'"):
        PromptClient(deep, ADDRESS)
    several = LoPAClassifier(
        tiny.backbone("llama"), head="verbalizer", verbalizer={"a": "yes", "b": "no"}, **options
    ).fit(["red", "good", "blue"], [["a"], ["b"], ["a", "b"]])
    with raises(ValueError, "several labels"):
        PromptClient(several, ADDRESS)
    with raises(ValueError, "not fitted"):
        PromptClient(LoPAGenerator(), ADDRESS)


def test_parameters_are_checked(generator):
    for name, value in (("max_concurrency", 0), ("patience", -1), ("timeout", 0)):
        with raises(ValueError, f"parameter {name} must be", f"got {value}"):
            PromptClient(generator, ADDRESS, **{name: value})


def test_writing_needs_no_client_library(generator, monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx", None)
    client = PromptClient(generator, ADDRESS)
    assert len(client.to_prompt_embeds(SOURCES)) == 4
    with raises(ImportError, "httpx", "pip install httpx"):
        client.predict(SOURCES)


def test_an_api_key_is_shown_nowhere(generator):
    client = PromptClient(generator, ADDRESS, api_key="sesame")
    assert "sesame" not in repr(client)


@pytest.mark.stress
@pytest.mark.parametrize("rank", [0, 2])
def test_memory_of_a_client_stays_far_below_the_frozen_model(tmp_path, tiny_folder, rank):
    folder = tiny.save(
        tmp_path / "large", "llama", hidden_size=512, intermediate_size=8192,
        num_hidden_layers=LARGE // (4 * 3 * 512 * 8192) + 1,
    )  # fmt: skip
    generator = make(folder, tiny_folder, rank=rank, max_iter=1)
    import pickle

    (tmp_path / "g.pickle").write_bytes(pickle.dumps(generator))
    script = (
        "import pickle, sys, torch, transformers\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer, BertModel, LlamaModel\n"
        "def peak():\n"
        "    return int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) << 10\n"
        "from sklopa.serving import PromptClient\n"
        "before = peak()\n"
        "generator = pickle.loads(open(sys.argv[1], 'rb').read())\n"
        f"client = PromptClient(generator, {ADDRESS!r})\n"
        "client.to_prompt_embeds(['good film'] * 50)\n"
        "print(peak() - before)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "g.pickle")]
    grown = int(subprocess.run(command, capture_output=True, check=True).stdout)
    assert (tmp_path / "large" / "model.safetensors").stat().st_size > LARGE
    assert grown < LARGE / 2


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_message_holds_one_dense_tensor_in_the_precision_of_the_model(
    tmp_path, tiny_folder, dtype
):
    folder = tiny.save(tmp_path, "llama", getattr(torch, dtype))
    generator = make(Backbone(folder, dtype=dtype), tiny_folder)
    for (message,) in PromptClient(generator, ADDRESS, api="chat").messages(SOURCES):
        tensor = decode_embeds(message["content"][0]["data"], tiny.WIDTH, None)
        assert (tensor.dtype, tensor.shape) == (getattr(torch, dtype), (3, tiny.WIDTH))


def test_ten_rows_of_576_values_in_bfloat16_take_less_than_20_kib():
    many = torch.randn(32, 10, 576).bfloat16()
    encoded, salt = embeds_and_salt(many[5])  # a slice of a batch, without the rest of it
    assert len(json.dumps([encoded, salt])) < 20 << 10
    assert torch.equal(decode_embeds(encoded, 576, torch.bfloat16), many[5])
