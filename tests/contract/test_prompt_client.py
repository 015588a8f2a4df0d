"""A fitted estimator whose frozen model runs on a server: same answers, and clear failures."""

import asyncio
import gc
import json
import pickle
import re
import socket
import threading
import time
import traceback
import tracemalloc
import zlib

import jinja2
import numpy as np
import pytest
import tiny
from fake_server import FakeServer, bomb, serving
from helpers import raises

from sklopa import Backbone, LoPAClassifier, LoPAGenerator
from sklopa.errors import (
    InvalidParameter,
    OldServerWarning,
    ServerRefused,
    ServerUnreachable,
    TruncationWarning,
)
from sklopa.serving import PLAIN_CHAT_TEMPLATE, PromptClient

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
    """A server with the chat template of `folder`."""
    fake = FakeServer(*tiny.model("llama"))
    fake.joint, fake.around = "\n", ("the ", " and it")
    return fake


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


# ---------------------------------------------------------------------- hostile and broken servers


def test_streams_are_cut_at_line_feeds_only(generator, fake, url, monkeypatch):
    said = "a\u2028b\u2029c \x85 d\x0b\x0c\x1c\x1d e\r f"
    answer = {"choices": [{"text": said}]}
    monkeypatch.setattr(fake, "complete", lambda body: answer)
    assert "".join(asyncio.run(collect(PromptClient(generator, url).stream("red")))) == said


@pytest.mark.parametrize("ask", ["predict", "stream", "models"])
def test_a_server_that_drips_is_given_the_timeout_in_all(generator, fake, url, ask, monkeypatch):
    timeout, complete = 0.5, fake.complete

    def slowly(body):
        fake.drip = 0.2
        return complete(body)

    monkeypatch.setattr(fake, "complete", slowly)
    fake.drip = 0.2 if ask == "models" else 0.0
    client, started = PromptClient(generator, url, timeout=timeout), time.monotonic()
    with raises(ConnectionError, url, "timeout=0.5"):
        asyncio.run(collect(client.stream("red"))) if ask == "stream" else client.predict(["red"])
    assert time.monotonic() - started < 4 * timeout  # its bytes would take far longer


def test_the_waits_for_all_pieces_of_a_stream_count_together(generator, fake, url, monkeypatch):
    def slowly(body):
        fake.drip = 0.004  # each piece is there in far less than the timeout
        return {"choices": [{"text": "no " * 200}]}

    monkeypatch.setattr(fake, "complete", slowly)
    client, pieces = PromptClient(generator, url, timeout=2.0), []

    async def read():
        async for piece in client.stream("red"):
            pieces.append(piece)

    started = time.monotonic()
    with raises(ConnectionError, url, "timeout=2", "middle of an answer"):
        asyncio.run(read())
    assert pieces
    assert time.monotonic() - started < 6


def test_time_that_a_reader_takes_is_not_the_servers(generator, url):
    client = PromptClient(generator, url, timeout=2.0)

    async def read():
        pieces = []
        async for piece in client.stream(SOURCES[2]):
            pieces.append(piece)
            await asyncio.sleep(1.2)
        return pieces

    pieces = asyncio.run(read())
    assert len(pieces) > 1  # so the reader took longer than the timeout
    assert "".join(pieces) == generator.predict([SOURCES[2]])[0]


@pytest.mark.parametrize("ask", ["predict", "stream", "models"])
def test_a_small_answer_that_unpacks_to_a_large_one_is_refused(generator, fake, url, ask):
    packed, client = bomb(256), PromptClient(generator, url)
    assert len(packed) < 1 << 19
    fake.packed = ("gzip", packed)
    if ask == "models":
        fake.packed, fake.models = None, lambda: "x" * (65 << 20)
    tracemalloc.start()
    try:
        with raises(ValueError, url, "gave more than", "bytes in one"):
            if ask == "stream":
                asyncio.run(collect(client.stream("red")))
            else:
                client.predict(["red"])
        if ask != "models":  # where the server of this process holds it too
            assert tracemalloc.get_traced_memory()[1] < 200 << 20
    finally:
        tracemalloc.stop()


def test_an_answer_that_is_packed_though_nobody_asked_is_read_or_refused(generator, fake, url):
    client, plain = PromptClient(generator, url), b'{"choices": [{"text": "no"}]}'
    for wbits, name in ((31, "gzip"), (15, "deflate")):
        packer = zlib.compressobj(wbits=wbits)
        fake.packed = (name, packer.compress(plain) + packer.flush())
        assert client.predict(["red"]).tolist() == ["no"]
    for packed in (("gzip", plain), ("br", plain), ("deflate", fake.packed[1][:9])):
        fake.packed = packed
        with raises(ValueError, url, "gave "):
            client.predict(["red"])


def test_a_large_error_is_cut_and_its_status_still_counts(generator, fake, url):
    client, large = PromptClient(generator, url, patience=0), b"out of order " * (1 << 18)
    for status, error in ((413, ValueError), (503, ConnectionError)):
        fake.trouble = [(status, large)]
        with raises(error, url, "out of order") as caught:
            client.predict(["red"])
        assert len(str(caught.value)) < 1000


def one(**parts):
    return json.dumps({"choices": [parts]}).encode()


def logs(value):
    return b'{"choices": [{"text": "a", "logprobs": {"top_logprobs": [%s]}}]}' % value


NO_JSON = [b"", b"<html>Sign in</html>", b"\xff\xfe", b"{", b"[" * 100_000]
NO_ANSWER = [
    b"null", b"3", b"[]", b'"text"', b"{}", b'{"choices": null}', b'{"choices": {}}',
    b'{"choices": []}', b'{"choices": [null]}', b'{"choices": [{"text": "a"}, {"text": "b"}]}',
]  # fmt: skip
NO_TEXT = [one(text=None), one(), one(text=3), one(text=["a"]), one(message={"content": "a"})]
WORD = b'{"token_id:%d": %s, "token_id:%d": -1.0}'
NO_NUMBER = [
    b"null", b"NaN", b"-Infinity", b"Infinity", b'"-1"', b"true", b"[]", b"-1e999", b"-1e300",
    b"0.5", b"-1" + b"0" * 400,
]  # fmt: skip
NO_LOGS = [one(text="a"), one(text="a", logprobs=None), logs(b"null"), logs(b""), logs(b"{}")]
NO_MODELS = [
    b"null", b"{}", b"[]", b'{"data": null}', b'{"data": {"id": "served"}}', b'{"data": [null]}',
    b'{"data": [{}]}', b'{"data": [{"id": null}]}', b'{"data": [{"id": 3}]}',
    *(b'{"data": [{"id": "served", "max_model_len": %s}]}' % n
      for n in (b"-1", b"0", b"true", b'"96"', b"1.5", b"NaN", b"[]")),
]  # fmt: skip
ERRORS = [b'{"error": {"message": "out of memory"}}', b'{"error": "out of memory"}']


def refuses_in_one_sentence(url, ask, *parts):
    with raises(ValueError, f"The server at {url} gave ", *parts) as caught:
        ask()
    assert isinstance(caught.value, ServerRefused)
    text = re.sub(r"[.]{3}|[0-9][.][0-9]", "", str(caught.value).replace(url, ""))
    assert text.count(".") == 1
    assert text.endswith(".")
    assert len(text) < 300


@pytest.mark.parametrize("said", NO_JSON + NO_ANSWER + NO_TEXT)
def test_an_answer_that_is_no_text_is_refused(generator, fake, url, said):
    fake.trouble = [said] * 3
    client = PromptClient(generator, url)
    refuses_in_one_sentence(url, lambda: client.predict(["red"]))
    refuses_in_one_sentence(url, lambda: client.sample(["red"], 3))
    refuses_in_one_sentence(url, client.verify)


@pytest.mark.parametrize("value", NO_NUMBER)
def test_a_log_probability_that_is_none_is_refused(classifier, fake, url, value):
    words = classifier._fitted_task().network.design.word_ids
    client = PromptClient(classifier, url)
    for ids in (words, words[::-1]):
        fake.trouble = [logs(WORD % (ids[0], value, ids[1]))]
        refuses_in_one_sentence(url, lambda: client.predict(["red"]), "as a log-probability")
    fake.trouble = [logs(WORD % (words[0], b"-0.5", words[1]))]
    assert client.predict(["red"]).tolist() == [classifier.classes_[0]]


@pytest.mark.parametrize("said", NO_JSON + NO_ANSWER + NO_LOGS)
def test_an_answer_without_log_probabilities_is_refused(classifier, fake, url, said):
    fake.trouble = [said] * 2
    client = PromptClient(classifier, url)
    refuses_in_one_sentence(url, lambda: client.predict_proba(["red"]))
    refuses_in_one_sentence(url, client.verify)


@pytest.mark.parametrize("said", NO_JSON + NO_MODELS)
def test_a_list_of_models_that_is_none_is_refused(generator, fake, url, said):
    fake.listed = said
    client = PromptClient(generator, url)
    refuses_in_one_sentence(url, lambda: client.predict(["red"]))
    refuses_in_one_sentence(url, lambda: asyncio.run(collect(client.stream("red"))))
    assert fake.requests == 0


@pytest.mark.parametrize("said", ERRORS)
def test_an_error_with_a_status_of_success_is_passed_on(generator, classifier, fake, url, said):
    fake.trouble = [said] * 2
    for model in (generator, classifier):
        client = PromptClient(model, url)
        refuses_in_one_sentence(url, lambda c=client: c.predict(["red"]), "out of memory")
    fake.listed = said
    refuses_in_one_sentence(url, lambda: client.predict(["red"]), "out of memory")


@pytest.mark.parametrize("said", [
    b"<html>Sign in</html>", *ERRORS, b"{}", b'data: {"choices": 3}',
    *(b"data: " + said for said in (*NO_JSON, *NO_TEXT)),
])  # fmt: skip
def test_a_stream_of_nonsense_is_refused(generator, fake, url, said):
    fake.trouble = [said + b"\n\n"]
    client = PromptClient(generator, url)
    refuses_in_one_sentence(url, lambda: asyncio.run(collect(client.stream("red"))))


def test_a_stream_that_ends_too_soon_or_tells_an_error_has_broken_off(generator, fake, url):
    part, client = b"data: " + one(text="no") + b"\n\n", PromptClient(generator, url)
    for end in (b"", b": ping\n\n", b"data: " + ERRORS[0], b"data: " + ERRORS[1]):
        fake.trouble = [part + end]
        with raises(ConnectionError, url, "middle of an answer"):
            asyncio.run(collect(client.stream("red")))
    fake.trouble = [b": ping\n\nevent: x\r\n" + part + b"data:[DONE]"]
    assert asyncio.run(collect(client.stream("red"))) == ["no"]


def test_a_line_of_a_stream_is_bounded(generator, fake, url):
    fake.trouble = [b"data: " + b"x" * (2 << 20) + b"\n\ndata: [DONE]\n\n"]
    client = PromptClient(generator, url)
    refuses_in_one_sentence(url, lambda: asyncio.run(collect(client.stream("red"))), "one line")


# ---------------------------------------------------------------------- secrets


def shown(error):
    return "".join(traceback.format_exception(error)) + repr(error)


def test_a_password_in_the_address_is_sent_and_never_shown(generator, fake, url, caplog):
    caplog.set_level(0)
    plain, secret = url, "pass word/1"
    address = url.replace("http://", "http://me:pass%20word%2F1@")
    client = PromptClient(generator, address + "/v1", patience=0)
    assert client.predict(SOURCES).tolist() == generator.predict(SOURCES).tolist()
    assert {*fake.logins} == {"Basic bWU6cGFzcyB3b3JkLzE="}
    texts = [repr(client), client.verify().message, repr(vars(client))]
    fake.trouble = [b"no", 503, 404, b'{"error": "who is pass word/1?"}', b"pass word/1"]
    for _ in range(len(fake.trouble)):
        with pytest.raises((ServerRefused, ServerUnreachable)) as caught:
            client.predict(["red"])
        assert plain in str(caught.value)
        texts.append(shown(caught.value))
    texts += [record.getMessage() for record in caplog.records]
    assert not [text for text in texts if secret in text or "pass%20word" in text]


def test_a_key_that_the_server_repeats_is_not_shown(generator, fake, url):
    client = PromptClient(generator, url, api_key="sesame")
    fake.trouble = [b'{"error": "key sesame is over its limit"}', b"sesame"]
    for _ in range(2):
        with raises(ValueError, "***") as caught:
            client.predict(["red"])
        assert "sesame" not in shown(caught.value)


@pytest.mark.parametrize("address", [
    "localhost:8000", "", "ftp://host", "http://", "http://me:sesame@host:port", "/v1", 8000, None,
    "http://me:ses/ame@host", "http://me:sesame@", "me:sesame@host", "http://host/?key=sesame",
    "http://host/#sesame", "http://ho st/",
])  # fmt: skip
def test_an_address_that_is_none_is_refused_at_once_and_without_its_password(generator, address):
    with raises(ValueError, "base_url must be the address", "'http://localhost:8000'") as caught:
        PromptClient(generator, address)
    assert isinstance(caught.value, InvalidParameter)
    assert not re.search("sesame|ses/ame", shown(caught.value))


@pytest.mark.parametrize("key", ["", " ", "se\nsame", "sésame", b"sesame", 3])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(generator, key):
    with raises(ValueError, "api_key must be") as caught:
        PromptClient(generator, "http://localhost", api_key=key)
    assert str(key).strip() == "" or str(key) not in str(caught.value)


def test_a_password_and_a_key_cannot_both_be_sent(generator):
    with raises(ValueError, "either a password in base_url or an api_key"):
        PromptClient(generator, "http://me:sesame@localhost", api_key="other")


# ---------------------------------------------------------------------- messages


def test_messages_are_answered_as_the_estimator_answers(generator, classifier, fake, url, reviews):
    client = PromptClient(generator, url, api="chat")
    sources = [*SOURCES, ""]  # a part of nothing is left out
    assert client.predict(sources).tolist() == generator.predict(sources).tolist()
    found = PromptClient(classifier, url, api="chat").predict_proba(reviews[0])
    np.testing.assert_allclose(found, classifier.predict_proba(reviews[0]), atol=1e-4)
    assert all("messages" in body and "prompt_embeds" not in body for body in fake.bodies)


def test_messages_are_streamed_and_sampled(generator, url):
    client = PromptClient(generator, url, api="chat")
    pieces = asyncio.run(collect(client.stream(SOURCES[2])))
    assert "".join(pieces) == generator.predict([SOURCES[2]])[0]
    assert client.sample(SOURCES[:2], 3).shape == (2, 3)


def test_a_message_is_the_prompt_and_the_text_however_long_it_is(generator, classifier):
    for model, texts in ((generator, ["{}"] * 2), (classifier, ["{} it was"] * 2)):
        client = PromptClient(model, "http://localhost:1", api="chat")
        long = ["red", "red " * 500]
        for text, around, messages in zip(long, texts, client.messages(long), strict=True):
            ((prompt, said),) = [message["content"] for message in messages]
            assert said == {"type": "text", "text": around.format(text)}
            assert prompt.keys() == {"type", "data"}
            assert len(prompt["data"]) < 4 / 3 * 3 * tiny.WIDTH * 4 + 2500


def test_messages_need_nothing_of_the_frozen_model(folder, tiny_folder, generator, fake, url):
    import shutil

    moved = folder + "-moved"
    shutil.copytree(folder, moved)
    options = {"encoder": tiny_folder, "max_iter": 2, "max_new_tokens": 4} | OPTIONS
    model = LoPAGenerator(moved, **options).fit(SOURCES, TARGETS)
    expected = model.predict(SOURCES).tolist()
    stored = pickle.dumps(model)
    shutil.rmtree(moved)
    Backbone.release_all()
    client = PromptClient(pickle.loads(stored), url, api="chat")
    assert client.predict(SOURCES).tolist() == expected


@pytest.mark.parametrize("options", [
    {"rank": 0}, {"gate": "concat"}, {"gate": "instance"}, {"prompt_length": 0},
    {"train_encoder": True},
])  # fmt: skip
def test_messages_know_every_kind_of_prompt(folder, tiny_folder, url, options):
    options = {"encoder": tiny_folder, "max_iter": 2, "max_new_tokens": 4} | OPTIONS | options
    model = LoPAGenerator(folder, **options).fit(SOURCES, TARGETS)
    found = PromptClient(model, url, api="chat").predict(SOURCES)
    assert found.tolist() == model.predict(SOURCES).tolist()


def test_what_messages_cannot_do_is_refused(folder, tiny_folder):
    options = {"encoder": tiny_folder, "max_iter": 1, "max_new_tokens": 4} | OPTIONS
    model = LoPAGenerator(folder, max_length=30, **options).fit(SOURCES, TARGETS)
    with raises(ValueError, "max_length=30", "api='completions'"):
        PromptClient(model, "http://localhost:1", api="chat")
    with raises(ValueError, "parameter api must be one of", "got 'talk'"):
        PromptClient(model, "http://localhost:1", api="talk")


@pytest.mark.parametrize("text", ["good [EOS] film", "[EOS]"])
def test_a_text_that_a_server_would_read_as_tokens_is_no_message(
    generator, classifier, fake, url, text
):
    for model in (generator, classifier):
        client = PromptClient(pickle.loads(pickle.dumps(model)), url, api="chat")
        for ask in (client.predict, client.messages):
            with raises(ValueError, "Row 1 holds '[", "api='completions'"):
                ask(["red", text])
    with raises(ValueError, "Row 0 holds '["):
        asyncio.run(collect(PromptClient(generator, url, api="chat").stream(text)))
    assert fake.requests == 0
    plain = PromptClient(generator, url)  # whose tokens are made here
    assert plain.predict([text]).tolist() == generator.predict([text]).tolist()


def test_tokens_that_are_meant_as_such_go_in_messages(folder, tiny_folder, url):
    options = {"encoder": tiny_folder, "max_iter": 2, "max_new_tokens": 4} | OPTIONS
    model = LoPAGenerator(folder, special_tokens=True, **options).fit(SOURCES, TARGETS)
    text = "good [EOS] film"
    found = PromptClient(model, url, api="chat").predict([text])
    assert found.tolist() == model.predict([text]).tolist()


def test_verify_compares_messages_token_for_token(generator, fake, url):
    client = PromptClient(generator, url, api="chat")
    assert client.verify()
    for joint, *around in ((" it ", "the ", " and it"), ("", "", " and it"), ("", "the ", "")):
        fake.joint, fake.around = joint, around
        agreement = client.verify()
        assert not agreement
        assert "without --chat-template" in agreement.message


def test_without_a_chat_template_messages_pass_through_the_plain_one(
    folder, tiny_folder, fake, url, reviews
):
    options = {"encoder": tiny_folder, "chat_template": None, "max_iter": 2} | OPTIONS
    words = {"head": "verbalizer", "verbalizer": {"pos": "good", "neg": "bad"}}
    fake.joint, fake.around = "", ("", "")  # as `PLAIN_CHAT_TEMPLATE` has it
    generator = LoPAGenerator(folder, max_new_tokens=4, **options).fit(SOURCES, TARGETS)
    classifier = LoPAClassifier(folder, **words, **options).fit(*reviews)
    for model, texts in ((generator, SOURCES), (classifier, reviews[0])):
        client = PromptClient(model, url, api="chat")
        assert client.verify()
        assert client.predict(texts).tolist() == model.predict(texts).tolist()
        fake.around = ("the ", "")
        agreement = client.verify()
        assert not agreement
        assert "PLAIN_CHAT_TEMPLATE" in agreement.message
        fake.around = ("", "")


@pytest.mark.parametrize(("server", "path"), [
    ({}, "messages"), ({"around": ("", "")}, "prompt_embeds"),
    ({"joint": " it "}, "prompt_embeds"), ({"knows_parts": False}, "prompt_embeds"),
])  # fmt: skip
def test_auto_sends_messages_where_the_server_reads_them_right(generator, fake, url, server, path):
    vars(fake).update(server)
    client = PromptClient(generator, url, api="auto")
    assert client.predict(SOURCES).tolist() == generator.predict(SOURCES).tolist()
    assert path in fake.bodies[-1]


def test_the_plain_template_passes_messages_through():
    template = jinja2.Template(PLAIN_CHAT_TEMPLATE)
    parts = [{"type": "text", "text": "<Z>"}, {"type": "text", "text": " a\n b {{c}}"}]
    for content in (parts, "<Z> a\n b {{c}}"):
        found = template.render(messages=[{"role": "user", "content": content}])
        assert found == "<Z> a\n b {{c}}"


@pytest.mark.parametrize("said", [b"null", one(text="a"), one(message=None), one(message={}),
                                  one(message={"content": None})])  # fmt: skip
def test_a_chat_of_nonsense_is_refused(generator, classifier, fake, url, said):
    for model in (generator, classifier):
        fake.trouble = [said] * 2
        client = PromptClient(model, url, api="chat")
        refuses_in_one_sentence(url, lambda c=client: c.predict(["red"]))
        refuses_in_one_sentence(url, client.verify)


@pytest.mark.parametrize(("version", "is_old"), [
    ("0.32.0", False), ("0.30.0", False), ("1.0", False), ("0.30.1rc1.dev3+gabc", False),
    ("0.29.0", True), ("0.11.0", True), ("0.9.2.post1", True), (None, False), ("dev", False),
])  # fmt: skip
def test_verify_warns_of_a_server_that_is_too_old(generator, fake, url, version, is_old, recwarn):
    fake.version = version
    assert PromptClient(generator, url).verify()
    found = [str(w.message) for w in recwarn if w.category is OldServerWarning]
    assert len(found) == is_old
    assert all(version in text and "0.30" in text and url in text for text in found)
