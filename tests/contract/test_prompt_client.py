"""A fitted estimator whose frozen model runs on a server: same answers, and clear failures."""

import asyncio
import gc
import socket
import threading
import time

import numpy as np
import pytest
import tiny
from fake_server import FakeServer, serving
from helpers import raises

from sklopa import LoPAClassifier, LoPAGenerator
from sklopa.errors import ServerUnreachable, TruncationWarning
from sklopa.serving import PromptClient

pytestmark = pytest.mark.server

SOURCES = ["good film", "bad book", "the very awful plot and it was not good", "red", "blue maybe"]
TARGETS = ["yes", "no", "no no maybe", "yes yes", "maybe"]
OPTIONS = {"prompt_length": 3, "rank": 2, "bottleneck": 8, "random_state": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny llama with a chat template, as a client and a server would both read it."""
    folder = tmp_path_factory.mktemp("llama")
    made, reader = tiny.model("llama")
    reader.chat_template = "{% for m in messages %}the {{ m['content'] }} {% endfor %}and it"
    made.save_pretrained(folder)
    reader.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def generator(folder, tiny_folder):
    model = LoPAGenerator(
        folder, encoder=tiny_folder, max_iter=30, learning_rate=1e-2, max_new_tokens=6, **OPTIONS
    )
    return model.fit(SOURCES, TARGETS)


@pytest.fixture(scope="module")
def classifier(folder, tiny_folder, reviews):
    model = LoPAClassifier(
        folder, encoder=tiny_folder, head="verbalizer", template="{text} it was",
        verbalizer={"pos": "good", "neg": "bad"}, max_iter=3, **OPTIONS,
    )  # fmt: skip
    return model.fit(*reviews)


@pytest.fixture
def fake():
    return FakeServer(*tiny.model("llama"))


@pytest.fixture
def url(fake):
    with serving(fake) as url:
        yield url


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def collect(pieces):
    return [piece async for piece in pieces]


# ---------------------------------------------------------------------- answers


def test_the_server_writes_what_the_estimator_writes(generator, fake, url):
    client = PromptClient(generator, url + "/v1")
    assert client.predict(SOURCES).tolist() == generator.predict(SOURCES).tolist()
    assert fake.requests == len(SOURCES)


def test_stop_texts_end_a_row_there_too(generator, url):
    whole = generator.predict(SOURCES)[0]
    try:
        generator.set_params(stop=whole.split()[1])
        found = PromptClient(generator, url).predict(SOURCES)
        assert found.tolist() == generator.predict(SOURCES).tolist()
        assert found[0] == whole[: whole.index(whole.split()[1])]
    finally:
        generator.set_params(stop=None)


def test_label_words_get_the_estimators_probabilities(classifier, url, reviews):
    client = PromptClient(classifier, url)
    expected = classifier.predict_proba(reviews[0])
    np.testing.assert_allclose(client.predict_proba(reviews[0]), expected, atol=1e-4)
    assert client.predict(reviews[0]).tolist() == classifier.predict(reviews[0]).tolist()


def test_samples_have_their_shape_and_differ(generator, fake, url):
    found = PromptClient(generator, url).sample(SOURCES, 4)
    assert found.shape == (len(SOURCES), 4)
    assert len({*found.ravel()}) > 1
    assert {body["n"] for body in fake.bodies} == {4}


def test_nothing_is_left_to_the_servers_own_settings(generator, fake, url):
    PromptClient(generator, url).predict(SOURCES[:1])
    said = {"temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty"}
    assert said <= fake.bodies[0].keys()


def test_streamed_pieces_join_to_the_text(generator, url):
    client = PromptClient(generator, url)
    for source in SOURCES:
        pieces = asyncio.run(collect(client.stream(source)))
        assert "".join(pieces) == generator.predict([source])[0]
    assert len(pieces) > 1


def test_several_streams_may_run_at_once(generator, url):
    client = PromptClient(generator, url)

    async def all_of_them():
        return await asyncio.gather(*(collect(client.stream(source)) for source in SOURCES))

    found = ["".join(pieces) for pieces in asyncio.run(all_of_them())]
    assert found == generator.predict(SOURCES).tolist()


def test_predict_works_where_an_event_loop_runs_already(generator, url):
    async def notebook():
        return PromptClient(generator, url).predict(SOURCES)

    assert asyncio.run(notebook()).tolist() == generator.predict(SOURCES).tolist()


def test_no_more_requests_than_allowed_are_on_their_way(generator, fake, url):
    fake.delay = 0.02
    client = PromptClient(generator, url, max_concurrency=3)
    found = client.predict(SOURCES * 6)
    assert found.tolist() == generator.predict(SOURCES).tolist() * 6
    assert fake.most_at_once == 3


def test_truncation_is_told_as_by_the_estimator(generator, url, fake):
    fake.room = 96
    with pytest.warns(TruncationWarning, match="1 of 2 texts"):
        PromptClient(generator, url).predict(["good " * 200, "red"])


# ---------------------------------------------------------------------- verify


def test_verify_agrees_with_a_server_of_the_same_model(generator, url):
    agreement = PromptClient(generator, url).verify()
    assert agreement
    assert agreement.difference < 1e-4
    assert url in agreement.message


def test_verify_finds_other_weights_and_another_scale(generator, fake, url):
    fake.scale = 3.0
    agreement = PromptClient(generator, url).verify()
    assert not agreement
    assert "otherwise than its own tokens" in agreement.message
    with serving(FakeServer(*tiny.model("llama", seed=1))) as other:
        assert not PromptClient(generator, other).verify()


# ---------------------------------------------------------------------- failures


@pytest.mark.parametrize("trouble", [[503] * 4, [500, 429, 502], ["drop"] * 4])
def test_a_server_in_trouble_is_tried_again_and_no_row_is_lost(generator, fake, url, trouble):
    fake.trouble = list(trouble)
    found = PromptClient(generator, url).predict(SOURCES)
    assert found.tolist() == generator.predict(SOURCES).tolist()
    assert fake.requests == len(SOURCES) + len(trouble)


def test_a_server_that_dies_and_comes_back_in_mid_run_loses_no_row(generator, fake):
    port, expected, found = free_port(), generator.predict(SOURCES).tolist() * 20, []
    client = PromptClient(generator, f"http://127.0.0.1:{port}", max_concurrency=4)
    fake.delay = 0.01
    worker = threading.Thread(target=lambda: found.extend(client.predict(SOURCES * 20)))
    with serving(fake, port):
        worker.start()
        while fake.requests < 10:
            time.sleep(0.005)
    died_after = fake.requests
    time.sleep(0.5)
    with serving(fake, port):
        worker.join()
    assert died_after < len(expected)
    assert found == expected


@pytest.mark.parametrize("trouble", ["nothing there", "no answer", "busy"])
def test_a_dead_server_is_named_after_the_time_one_was_willing_to_wait(generator, fake, trouble):
    started, options = time.monotonic(), {"patience": 0.6, "timeout": 0.5}
    if trouble == "nothing there":
        client = PromptClient(generator, f"http://127.0.0.1:{free_port()}", **options)
        with raises(ConnectionError, "does not answer", "connection", "Check that it runs"):
            client.predict(SOURCES)
    else:
        fake.delay = 2.0 if trouble == "no answer" else 0.0
        fake.trouble = [503] * 100
        with serving(fake) as url, raises(ConnectionError, url, "does not answer", "patience="):
            PromptClient(generator, url, **options).predict(SOURCES)
    assert time.monotonic() - started < 5


def test_a_server_without_prompt_embeds_is_told_the_flag(generator, fake, url):
    fake.enabled = False
    with raises(ValueError, url, "Start it with --enable-prompt-embeds"):
        PromptClient(generator, url).predict(SOURCES)
    assert fake.requests <= len(SOURCES)  # no use in trying again


def test_a_server_of_another_model_is_named(generator, fake, url):
    with raises(ValueError, "no model 'mine'; it serves 'served'", "model="):
        PromptClient(generator, url, model="mine").predict(SOURCES)
    other = FakeServer(*tiny.model("llama", hidden_size=64))
    parts = ("serves another model", "hidden_size 32", "hidden_size 64")
    with serving(other) as address, raises(ValueError, *parts):
        PromptClient(generator, address).predict(SOURCES)


def test_a_row_too_long_for_the_server_is_named_before_anything_is_sent(generator, fake, url):
    fake.room = 20
    texts = ["red", "good film and a plot", "a red book and a blue book and a green one"]
    with raises(ValueError, "Row 2 takes", "up to 6 more", "reads 20", "--max-model-len"):
        PromptClient(generator, url).predict(texts)
    assert fake.requests == 0


def test_what_the_server_says_of_a_length_is_passed_on(generator, fake, url, monkeypatch):
    said = fake.models()
    said["data"][0].pop("max_model_len")
    monkeypatch.setattr(fake, "models", lambda: said)
    fake.room = 8
    with raises(ValueError, "refused the request", "maximum context length is 8 tokens"):
        PromptClient(generator, url).predict(SOURCES)


def test_a_key_is_sent_and_a_wrong_one_is_named(generator, fake, url):
    fake.key = "sesame"
    assert len(PromptClient(generator, url, api_key="sesame").predict(SOURCES[:1])) == 1
    with raises(ValueError, "wants another api_key"):
        PromptClient(generator, url, api_key="wrong").predict(SOURCES[:1])


def test_an_address_of_something_else_is_named(generator, url):
    with raises(ValueError, "There is nothing at", "/wrong/v1/models", "base_url"):
        PromptClient(generator, url + "/wrong").predict(SOURCES)


def test_a_server_that_knows_no_chosen_words_is_told_so(classifier, fake, url, monkeypatch):
    answer = {"choices": [{"text": "a", "logprobs": {"top_logprobs": [{"token_id:5": -1.0}]}}]}
    monkeypatch.setattr(fake, "complete", lambda body: answer)
    with raises(ValueError, "no probability for label word", "logprob_token_ids"):
        PromptClient(classifier, url).predict(["red"])


def test_a_stream_that_breaks_off_says_so_and_one_that_has_not_begun_is_tried_again(
    generator, fake, url
):
    client = PromptClient(generator, url)
    fake.trouble = [503, "drop"]
    assert "".join(asyncio.run(collect(client.stream("red")))) == generator.predict(["red"])[0]
    fake.break_after = 1
    with pytest.raises(ServerUnreachable, match="broke off in the middle of an answer"):
        asyncio.run(collect(client.stream("red")))


def test_what_an_estimator_cannot_do_is_refused(generator, classifier, url):
    with raises(ValueError, "predict_proba needs a LoPAClassifier"):
        PromptClient(generator, url).predict_proba(SOURCES)
    with raises(ValueError, "sample needs a LoPAGenerator"):
        PromptClient(classifier, url).sample(SOURCES, 2)
    with raises(ValueError, "n_samples must be", "got 0"):
        PromptClient(generator, url).sample(SOURCES, 0)
    with raises(ValueError, "stream needs a LoPAGenerator"):
        asyncio.run(collect(PromptClient(classifier, url).stream("red")))
    try:
        generator.set_params(num_beams=2)
        with raises(ValueError, "num_beams=2", "set_params(num_beams=1)"):
            PromptClient(generator, url).predict(SOURCES)
    finally:
        generator.set_params(num_beams=1)


def test_a_failed_run_leaves_no_task_that_nobody_waits_for(generator, fake, url, caplog):
    fake.enabled = False
    with pytest.raises(ValueError, match="enable-prompt-embeds"):
        PromptClient(generator, url).predict(SOURCES * 4)
    gc.collect()
    assert not [record for record in caplog.records if record.name == "asyncio"]
