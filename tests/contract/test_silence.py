"""Once files are local nothing reaches out, and twenty fits leave nothing behind."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import silence

import sklopa


@pytest.mark.parametrize("address", [("127.0.0.1", 9), ("192.0.2.1", 80), ("huggingface.co", 443)])
def test_tests_cannot_reach_a_network(address):
    with pytest.raises(silence.NetworkUsed):
        socket.create_connection(address, timeout=1)


def run(code, *arguments):
    """The JSON that `code` prints in a process of its own, which may ask the hub."""
    tests = Path(__file__).parents[1]
    folders = [Path(sklopa.__file__).parents[1], tests, tests / "fakes"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))}
    environment["HF_HUB_OFFLINE"] = "0"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


_QUIET = """
import silence
silence.install()
import json, sys
import sklopa
texts, labels = ["good", "bad"] * 4, ["pos", "neg"] * 4
clf = sklopa.LoPAClassifier(sys.argv[1], prompt_length=2, rank=1, max_iter=1)
clf.fit(texts, labels).save(sys.argv[2], include_backbone=True)
print(json.dumps(sklopa.load(sys.argv[2]).predict(texts).tolist()))
"""


def test_fit_predict_save_and_load_connect_to_nothing(tiny_folder, tmp_path):
    assert set(run(_QUIET, tiny_folder, tmp_path / "clf")) <= {"pos", "neg"}


_GROWTH = """
import gc, json, sys
import faults
sizes = []
for _ in range(20):
    clf = faults.classifier().fit(faults.TEXTS, faults.LABELS)
    for i in range(10):
        clf.predict([f"{text} {i}" for text in faults.TEXTS])
    gc.collect()
    sizes.append(int(open("/proc/self/statm").read().split()[1]))
print(json.dumps(sizes))
"""


@pytest.mark.stress
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_twenty_fits_and_two_hundred_predictions_leave_memory_as_after_the_second():
    sizes = run(_GROWTH)
    assert sizes[-1] < 1.05 * sizes[1]
