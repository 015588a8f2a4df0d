"""The real thing: one vLLM, several tasks and the bare model, at once and through a crash."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openai
import pytest
from helpers import raises
from vllm_server import VLLM, save_smollm2

import sklopa
from sklopa import Backbone, LoPAClassifier, LoPAGenerator
from sklopa.serving import PLAIN_CHAT_TEMPLATE, PromptClient

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

EXAMPLES = Path(sklopa.__file__).parents[1] / "examples"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
PLACES = ["The Eagle", "Aromi", "Cotto", "The Mill", "Zizzi", "The Punter", "Alimentum", "Giraffe"]
FOODS = ["French", "Indian", "Italian", "English"]
FACTS = [f"name[{place}], food[{food}]" for food in FOODS for place in PLACES]
SENTENCES = [f"{place} serves {food} food." for food in FOODS for place in PLACES]
QUESTIONS = [f"Where can I eat {food} food, at {place} or elsewhere?" for place in PLACES
             for food in FOODS]  # fmt: skip
REPLIES = [f"Go to {place}." for place in PLACES for _ in FOODS]
REVIEWS = [
    "a good film",
    "a bad film",
    "great fun",
    "so dull",
    "I loved it",
    "I want my money back",
]
MOODS = ["pos", "neg"] * 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_smollm2(tmp_path_factory.mktemp("smollm2"))


@pytest.fixture(scope="module")
def writer(folder):
    """A task: facts to a sentence, with a prompt for each instance."""
    model = LoPAGenerator(
        folder, encoder=MINILM, rank=2, max_iter=6, batch_size=8, max_new_tokens=16, random_state=0
    )
    return model.fit(FACTS[::4], SENTENCES[::4])


@pytest.fixture(scope="module")
def guide(folder):
    """Another task, with one prompt for all texts."""
    model = LoPAGenerator(
        folder, rank=0, prompt_length=5, max_iter=6, batch_size=8, max_new_tokens=12, random_state=0
    )
    return model.fit(QUESTIONS[::4], REPLIES[::4])


@pytest.fixture(scope="module")
def plain(folder):
    """One that uses no chat template."""
    model = LoPAGenerator(
        folder, rank=0, prompt_length=4, max_iter=2, batch_size=8, max_new_tokens=12,
        chat_template=None, random_state=0,
    )  # fmt: skip
    return model.fit(FACTS[::4], SENTENCES[::4])


@pytest.fixture(scope="module")
def critic(folder):
    """A third one: label words."""
    model = LoPAClassifier(
        folder, encoder=MINILM, rank=1, head="verbalizer", template="{text}. It was",
        verbalizer={"pos": "great", "neg": "terrible"}, max_iter=2, random_state=0,
    )  # fmt: skip
    return model.fit(REVIEWS, MOODS)


@pytest.fixture(scope="module")
def expected(writer, guide, plain, critic):
    """What the estimators themselves say, with the frozen model in this process."""
    found = {
        "writer": writer.predict(FACTS).tolist(),
        "guide": guide.predict(QUESTIONS).tolist(),
        "plain": plain.predict(FACTS[:6]).tolist(),
        "critic": critic.predict_proba(REVIEWS),
    }
    for model in (writer, guide, plain, critic):
        model._network = model._network.stored()
    Backbone.release_all()  # from here on the frozen model is on the server alone
    return found


@pytest.fixture(scope="module")
def vllm(folder, expected, tmp_path_factory):
    log = tmp_path_factory.mktemp("vllm") / "log"
    options = ("--enable-prompt-embeds", "--trust-request-chat-template")
    with VLLM(folder, log, *options) as server:
        yield server


def ask_bare(url, text):
    """What the untouched model says, asked as anyone would."""
    body = {"model": "smollm2", "prompt": text, "max_tokens": 8, "temperature": 0}
    request = urllib.request.Request(
        f"{url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=300) as answer:
        return json.loads(answer.read())["choices"][0]["text"]


def test_greedy_texts_through_the_server_are_the_local_ones(vllm, writer, guide, expected):
    assert PromptClient(writer, vllm.url).predict(FACTS).tolist() == expected["writer"]
    assert PromptClient(guide, vllm.url).predict(QUESTIONS).tolist() == expected["guide"]
    assert len({*expected["writer"]}) > 20  # instances matter, so equality says something


def test_label_words_have_the_local_probabilities(vllm, critic, expected):
    found = PromptClient(critic, vllm.url).predict_proba(REVIEWS)
    np.testing.assert_allclose(found, expected["critic"], atol=1e-4)


def test_messages_are_answered_as_the_estimators_answer(vllm, writer, guide, critic, expected):
    clients = [PromptClient(model, vllm.url, api="chat") for model in (writer, guide, critic)]
    for client in clients:
        agreement = client.verify()
        assert agreement, agreement.message
    assert clients[0].predict(FACTS).tolist() == expected["writer"]
    assert clients[1].predict(QUESTIONS).tolist() == expected["guide"]
    np.testing.assert_allclose(clients[2].predict_proba(REVIEWS), expected["critic"], atol=1e-3)


def ask_with_openai(url, messages, **options):
    """The answers to messages, asked by a client that knows nothing of sklopa."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        return [
            client.chat.completions.create(
                model="smollm2", messages=one, temperature=0.0, **options
            )
            for one in messages
        ]


def test_a_plain_openai_client_gets_the_estimators_texts_whole_and_in_pieces(
    vllm, writer, expected
):
    messages = PromptClient(writer, vllm.url, api="chat").messages(FACTS[:4])
    answers = ask_with_openai(vllm.url, messages, max_tokens=16)
    assert [one.choices[0].message.content for one in answers] == expected["writer"][:4]
    with openai.OpenAI(base_url=f"{vllm.url}/v1", api_key="none") as client:
        parts = client.chat.completions.create(
            model="smollm2", messages=messages[0], max_tokens=16, temperature=0.0, stream=True
        )
        pieces = [part.choices[0].delta.content or "" for part in parts if part.choices]
    assert len([piece for piece in pieces if piece]) > 3
    assert "".join(pieces) == expected["writer"][0]


def test_without_a_chat_template_messages_pass_through_the_plain_one(vllm, plain, expected):
    messages = PromptClient(plain, vllm.url, api="chat").messages(FACTS[:6])
    answers = ask_with_openai(
        vllm.url, messages, max_tokens=12, extra_body={"chat_template": PLAIN_CHAT_TEMPLATE}
    )
    assert [one.choices[0].message.content for one in answers] == expected["plain"]
    agreement = PromptClient(plain, vllm.url, api="chat").verify()  # the server's own is another
    assert not agreement
    assert "PLAIN_CHAT_TEMPLATE" in agreement.message


def test_auto_sends_messages(vllm, guide, expected):
    client = PromptClient(guide, vllm.url, api="auto")
    assert client.predict(QUESTIONS[:2]).tolist() == expected["guide"][:2]
    assert client._path == "/v1/chat/completions"


def test_the_example_serves_its_tasks(vllm):
    command = [sys.executable, str(EXAMPLES / "vllm_server.py")]
    environment = os.environ | {"SKLOPA_VLLM_URL": vllm.url}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "with the model in this process: True" in done.stdout
    assert done.stdout.count("token for token as the estimator does") == 2
    assert "the bare model says" in done.stdout


def test_verify_agrees_and_pieces_join_to_the_text(vllm, writer, expected):
    client = PromptClient(writer, vllm.url)
    agreement = client.verify()
    assert agreement, agreement.message

    async def collect():
        return [piece async for piece in client.stream(FACTS[0])]

    pieces = asyncio.run(collect())
    assert len(pieces) > 3
    assert "".join(pieces) == expected["writer"][0]


def test_samples_differ_and_keep_to_their_seed(vllm, writer):
    client = PromptClient(writer, vllm.url)
    one, two = client.sample(FACTS[:2], 4), client.sample(FACTS[:2], 4)
    assert one.shape == (2, 4)
    assert len({*one.ravel()}) > 2
    assert one.tolist() == two.tolist()


def test_tasks_and_the_bare_model_are_answered_at_once_and_not_mixed_up(
    vllm, writer, guide, expected
):
    prompts = [f"{place} is a" for place in PLACES]
    alone = [ask_bare(vllm.url, prompt) for prompt in prompts]
    many = {"max_concurrency": 32}  # 64 of two tasks, and 8 of the bare model
    with ThreadPoolExecutor(2 + len(prompts)) as pool:
        jobs = {
            "writer": pool.submit(PromptClient(writer, vllm.url, **many).predict, FACTS),
            "guide": pool.submit(PromptClient(guide, vllm.url, **many).predict, QUESTIONS),
        }
        bare = [pool.submit(ask_bare, vllm.url, prompt) for prompt in prompts]
        for name, job in jobs.items():
            assert job.result().tolist() == expected[name]
        assert [job.result() for job in bare] == alone


def test_a_row_that_is_too_long_and_another_name_are_refused(vllm, writer):
    with raises(ValueError, "Row 0 takes", "reads 512"):
        PromptClient(writer, vllm.url).predict(["word " * 600])
    with raises(ValueError, "no model 'other'; it serves 'smollm2'"):
        PromptClient(writer, vllm.url, model="other").predict(FACTS[:1])


def test_killed_and_started_again_in_mid_run_it_loses_no_row(vllm, writer, expected):
    client, found = PromptClient(writer, vllm.url, max_concurrency=2, patience=600), []
    bodies = client._writer.write
    sent = []
    client._writer.write = lambda rows: (sent.append(1) or row for row in bodies(rows))
    worker = threading.Thread(target=lambda: found.extend(client.predict(FACTS)))
    worker.start()
    while len(sent) < 6:
        time.sleep(0.01)
    vllm.kill()
    assert len(sent) < len(FACTS)
    assert not found
    vllm.start()
    vllm.wait()
    worker.join(300)
    assert found == expected["writer"]


def test_a_server_without_the_flag_is_told_it(vllm, writer, folder, tmp_path):
    vllm.kill()  # room for another one
    with VLLM(folder, tmp_path / "log") as plain:
        assert ask_bare(plain.url, "The")
        with raises(ValueError, plain.url, "Start it with --enable-prompt-embeds"):
            PromptClient(writer, plain.url).predict(FACTS[:2])
