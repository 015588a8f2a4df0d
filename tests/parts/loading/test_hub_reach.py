"""A hub that does not answer is asked once, and what is a path is never asked for."""

import huggingface_hub.utils
import pytest
import tiny
from helpers import raises
from huggingface_hub import constants

import sklopa
from sklopa import Backbone, LoPAClassifier
from sklopa._loading import hub

TEXTS, LABELS = ["good film", "bad film"] * 3, ["a", "b"] * 3


class Session:
    """A hub's client that notes what it is asked."""

    def __init__(self, answer):
        self.answer, self.asked = answer, []

    def head(self, address, timeout):
        self.asked.append((address, timeout))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def silent_hub(monkeypatch):
    session = Session(ConnectionError("no route"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for module in (huggingface_hub.utils, huggingface_hub.utils._http):
        monkeypatch.setattr(module, "get_session", lambda: session)
    monkeypatch.setattr(hub, "_silent_until", 0.0)
    return session


def test_a_hub_that_does_not_answer_is_asked_once_in_a_minute(silent_hub, monkeypatch):
    clock = iter([100.0, 100.0, 120.0, 159.0, 161.0, 161.0])
    monkeypatch.setattr(hub.time, "monotonic", lambda: next(clock))
    assert not any(hub.hub_answers() for _ in range(3))
    assert len(silent_hub.asked) == 1
    assert silent_hub.asked[0][1] <= 5
    assert not hub.hub_answers()
    assert len(silent_hub.asked) == 2


def test_a_hub_that_answers_is_asked_again_for_the_next_model(silent_hub):
    silent_hub.answer = "404"
    assert hub.hub_answers()
    silent_hub.answer = ConnectionError()
    assert not hub.hub_answers()


def test_a_hub_that_is_turned_off_is_not_asked(silent_hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub.hub_answers()
    assert not silent_hub.asked


def test_every_fit_with_an_unknown_model_fails_at_once(silent_hub):
    for _ in range(3):
        with raises(OSError, "'no-such/model'", constants.ENDPOINT, "does not answer", "cache"):
            LoPAClassifier("no-such/model").fit(TEXTS, LABELS)
    with raises(OSError, "'no-such/archive'", constants.ENDPOINT, "does not answer"):
        sklopa.load("no-such/archive")
    assert len(silent_hub.asked) == 1


@pytest.mark.parametrize(
    "name", ["./my_model", "../my_model", "/no/such", "a/b/c", "~/model", "a\\b"]
)
def test_a_folder_that_is_not_there_is_said_to_be_none(silent_hub, name):
    with raises(OSError, repr(name), "could not be loaded", "no such folder", "save_pretrained"):
        LoPAClassifier(name).fit(TEXTS, LABELS)
    assert not silent_hub.asked


def test_a_file_is_no_folder(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"")
    with raises(OSError, str(path), "but a file"):
        LoPAClassifier(path).fit(TEXTS, LABELS)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"device": "gpu"}, ["device", "'cuda'", "got 'gpu'"]),
        ({"device": "cuda:x"}, ["device", "got 'cuda:x'"]),
        ({"device": "cuda:99"}, ["device='cuda:99'", "cannot be used here", "device='auto'"]),
        ({"dtype": "fp16"}, ["dtype", "'float16'", "got 'fp16'"]),
        ({"dtype": "int64"}, ["dtype", "got 'int64'"]),
        ({"dtype": "nn"}, ["dtype", "got 'nn'"]),
    ],
)
@pytest.mark.parametrize("model", ["folder", "sentence-transformers/all-MiniLM-L6-v2"])
def test_a_device_or_dtype_that_is_none_is_named_before_the_model(
    silent_hub, tiny_folder, model, options, parts
):
    model = tiny_folder if model == "folder" else model
    with raises(ValueError, "Backbone: parameter", *parts) as caught:
        LoPAClassifier(Backbone(model, **options)).fit(TEXTS, LABELS)
    assert "pip" not in str(caught.value)
    assert not silent_hub.asked


# ---------------------------------------------------------------- live objects


def test_a_live_model_as_parameter_names_the_way_to_wrap_it():
    model, _ = tiny.model("bert")
    for options in ({"model": model}, {"encoder": model}):
        with raises(ValueError, "BertForMaskedLM", "Backbone.from_objects") as caught:
            LoPAClassifier(**options).fit(TEXTS, LABELS)
        assert len(str(caught.value)) < 250
        assert "Embedding(" not in str(caught.value)


def test_objects_that_are_no_model_and_tokenizer_are_refused_at_once():
    model, tokenizer = tiny.model("bert")
    with raises(ValueError, "The model comes first", "from_objects"):
        Backbone.from_objects(tokenizer, model)
    for pair in ((None, tokenizer), (model, None), ("bert", tokenizer), (model, "bert")):
        with raises(ValueError, "from_objects: give a transformers model and its tokenizer"):
            Backbone.from_objects(*pair)
    with raises(ValueError, "Linear", "transformers"):
        Backbone.from_objects(model.get_output_embeddings(), tokenizer)
