"""Estimators go to a model hub and come back, with a card beside them. The hub is a fake one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from fake_hub import FakeHub
from helpers import design_of, raises

import sklopa
from sklopa import LoPAClassifier
from sklopa._storage.hub import model_card

pytestmark = pytest.mark.server

# The hub's client reads its address once, so each side of the journey has a process of its own.
_PUSH = """
import json, sys
from sklopa import LoPAClassifier
texts, labels = ["good", "bad", "fine", "awful"] * 3, ["pos", "neg"] * 6
clf = LoPAClassifier(sys.argv[1], prompt_length=2, rank=1, max_iter=1, random_state=0)
address = clf.fit(texts, labels).push_to_hub("me/mine", token="hf_secret", scores={"accuracy": 0.5})
print(json.dumps([address, clf.predict_proba(texts).tolist()]))
"""
_LOAD = """
import json, sys, sklopa
clf = sklopa.load(sys.argv[1])
print(json.dumps(clf.predict_proba(["good", "bad", "fine", "awful"] * 3).tolist()))
"""
_FAIL = """
import json, sys, sklopa
try:
    sklopa.load(sys.argv[1])
except sklopa.errors.ArchiveNotFound as error:
    print(json.dumps(str(error)))
"""


def run(code, *arguments, endpoint, cache, offline=False):
    environment = os.environ | {
        "PYTHONPATH": str(Path(sklopa.__file__).parents[1]),
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(cache),
        "HF_HUB_OFFLINE": str(int(offline)),
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def journey(tiny_folder, tmp_path_factory):
    """A hub to which one estimator was pushed twice, and what it predicted."""
    hub, cache = FakeHub(), tmp_path_factory.mktemp("cache")
    with hub.running() as endpoint:
        for _ in range(2):
            address, expected = run(_PUSH, tiny_folder, endpoint=endpoint, cache=cache)
        yield hub, endpoint, address, expected


def test_a_pushed_estimator_loads_from_its_repository_and_predicts_the_same(journey, tmp_path):
    _, endpoint, address, expected = journey
    assert address == f"{endpoint}/me/mine"
    assert run(_LOAD, "me/mine", endpoint=endpoint, cache=tmp_path) == expected


def test_once_loaded_it_loads_with_no_hub(journey, tmp_path):
    hub, endpoint, _, expected = journey
    run(_LOAD, "me/mine", endpoint=endpoint, cache=tmp_path)
    n_requests = len(hub.requests)
    assert run(_LOAD, "me/mine", endpoint=endpoint, cache=tmp_path, offline=True) == expected
    assert len(hub.requests) == n_requests


def test_a_repository_holds_one_archive_and_a_card_and_no_token(journey):
    hub = journey[0]
    files = hub.files["me/mine"]
    assert sorted(name.split("-")[0] for name in files) == ["README.md", "manifest.json", "weights"]
    assert not any(b"hf_secret" in data for data in files.values())
    assert "Bearer hf_secret" in hub.tokens


@pytest.mark.parametrize("offline", [False, True])
def test_a_repository_that_is_not_there_is_named(journey, tmp_path, offline):
    text = run(_FAIL, "me/other", endpoint=journey[1], cache=tmp_path, offline=offline)
    assert "'me/other'" in text
    assert "hub" in text


def test_the_card_tells_task_scores_parameters_and_licence(journey, reviews):
    card = journey[0].files["me/mine"]["README.md"].decode()
    for part in ("text-classification", "neg, pos", "| accuracy | 0.5000 |", "| rank | 1 |"):
        assert part in card
    assert "not known" in card  # of a local folder
    clf = LoPAClassifier(tiny.backbone(), prompt_length=2, rank=1, max_iter=1).fit(*reviews)
    object.__setattr__(design_of(clf), "backbone", sklopa.Backbone("org/model"))
    card = model_card(clf._as_record(), None, "mit")
    assert 'license: "mit"' in card
    assert 'base_model: "org/model"' in card


def test_a_repository_that_cannot_be_written_is_told(fitted):
    with raises(OSError, "'not a repository'", "logged in"):
        fitted.push_to_hub("not a repository")
