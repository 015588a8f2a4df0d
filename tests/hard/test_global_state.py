"""Results depend on no mode of the caller's, and no global setting is left otherwise."""

import os
import signal
import threading
import time
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
import tiny
import torch

from sklopa import Backbone, LoPAClassifier, LoPAGenerator, LoPARegressor, cache_clear

TEXTS = ["good film", "bad film", "fine book", "awful book"] * 4
LABELS = ["pos", "neg"] * 8
SMALL = {"max_iter": 1, "prompt_length": 3, "rank": 2, "bottleneck": 8, "random_state": 0}


def settings_of_torch():
    """Every setting of the process, and of this thread, that torch and numpy tell."""
    told = {
        "rng": torch.get_rng_state().tolist(),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "threads": torch.get_num_threads(),
        "interop": torch.get_num_interop_threads(),
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "fill": torch.utils.deterministic.fill_uninitialized_memory,
        "anomaly": torch.is_anomaly_enabled(),
        "matmul": torch.get_float32_matmul_precision(),
        "flush": torch.tensor([1e-310], dtype=torch.float64).mul(1.0).item(),
        "sharing": torch.multiprocessing.get_sharing_strategy(),
        "functions": len(torch.overrides._get_current_function_mode_stack()),
        "print": vars(torch._tensor_str.PRINT_OPTS).copy(),
        "numpy errors": np.geterr(),
        "numpy print": np.get_printoptions(),
        "numpy random": str(np.random.get_state()),
    }
    for kind in ("cpu", "cuda"):
        told[f"autocast {kind}"] = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
    told["autocast cache"] = torch.is_autocast_cache_enabled()
    for name in ("flash", "mem_efficient", "math", "cudnn"):
        told[f"{name} attention"] = getattr(torch.backends.cuda, f"{name}_sdp_enabled")()
    told["half attention"] = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    for part in ("cudnn", "mkldnn", "mkl"):
        module = getattr(torch.backends, part)
        for name in ("enabled", "benchmark", "deterministic", "allow_tf32", "verbose"):
            if hasattr(module, name):
                told[f"{part} {name}"] = getattr(module, name)
    return told


@pytest.fixture(autouse=True)
def as_before():
    """Compares all settings with before, after whatever a test did."""
    before = settings_of_torch()
    yield
    after = settings_of_torch()
    assert {k: (v, after[k]) for k, v in before.items() if str(v) != str(after[k])} == {}


@contextmanager
def float64():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


MODES = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "float64": float64,
    "meta": lambda: torch.device("meta"),
}


@contextmanager
def all_modes():
    with ExitStack() as stack:
        for mode in MODES.values():
            stack.enter_context(mode())
        yield


def kinds(folder):
    """How each kind of network is fitted and read."""
    texts = str(folder / "bert")
    words = {"head": "verbalizer", "verbalizer": {"pos": "good", "neg": "bad"}}

    def classifier(**options):
        clf = LoPAClassifier(texts, **(SMALL | options)).fit(TEXTS, LABELS)
        return np.c_[clf.predict_proba(TEXTS), clf.generate_prompts(TEXTS).reshape(len(TEXTS), -1)]

    def several():
        clf = LoPAClassifier(texts, **SMALL).fit(TEXTS, [{"a"}, {"b"}, {"a", "b"}, {"c"}] * 4)
        return clf.predict_proba(TEXTS)

    def partial():
        clf = LoPAClassifier(texts, **SMALL)
        for _ in range(2):
            clf.partial_fit(TEXTS, LABELS, classes=["neg", "pos"])
        return clf.predict_proba(TEXTS)

    def generator():
        model = LoPAGenerator(str(folder / "gpt2"), **SMALL, max_new_tokens=3).fit(TEXTS, TEXTS)
        model.predict(TEXTS[:2])
        return model.log_likelihood(TEXTS, TEXTS)

    def regressor():
        return LoPARegressor(texts, **SMALL).fit(TEXTS, np.arange(16.0)).predict(TEXTS)

    return {
        "linear": classifier,
        "instance": lambda: classifier(gate="instance"),
        "concat": lambda: classifier(gate="concat"),
        "deep": lambda: classifier(depth="deep"),
        "layer": lambda: classifier(prompt_layer=1),
        "probe": lambda: classifier(prompt_length=0, rank=0),
        "verbalizer": lambda: classifier(**words),
        "encoder": lambda: classifier(train_encoder=True),
        "early": lambda: classifier(early_stopping=True, validation_fraction=0.25),
        "several": several,
        "partial": partial,
        "regressor": regressor,
        "generator": generator,
    }


KINDS = ("linear", "instance", "concat", "deep", "layer", "probe", "verbalizer", "encoder", "early",
         "several", "partial", "regressor", "generator")  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    tiny.save(folder / "bert")
    tiny.save(folder / "gpt2", "gpt2")
    return folder


def forget():
    Backbone.release_all()
    cache_clear()


@pytest.mark.parametrize("kind", KINDS)
def test_modes_of_the_caller_change_nothing(models, kind):
    run = kinds(models)[kind]
    forget()
    expected = run()
    for name, mode in MODES.items() if kind == "linear" else [("all", all_modes)]:
        forget()
        with mode():
            first = run()
        np.testing.assert_array_equal(first, expected, err_msg=name)
        np.testing.assert_array_equal(run(), expected, err_msg=f"after {name}")


@pytest.mark.parametrize("mode", MODES)
def test_what_was_fitted_before_predicts_alike_and_goes_on(models, mode):
    def fresh():
        clf = LoPAClassifier(str(models / "bert"), **SMALL)
        return clf.partial_fit(TEXTS, LABELS, classes=["neg", "pos"])

    plain, other = fresh(), fresh()
    new = ["red film", "blue book"]
    with MODES[mode]():
        found = other.predict_proba(new)
    np.testing.assert_array_equal(found, plain.predict_proba(new))
    for clf in (plain, other):
        clf.partial_fit(TEXTS, LABELS)
    np.testing.assert_array_equal(plain.predict_proba(TEXTS), other.predict_proba(TEXTS))


def test_threads_do_not_disturb_each_other():
    model, reader = tiny.model("bert")
    backbone = Backbone.from_objects(model.to(torch.bfloat16), reader)  # with attention of its own
    expected = LoPAClassifier(backbone, **SMALL).fit(TEXTS, LABELS).predict_proba(TEXTS)
    found, failed = [], []

    def work():
        try:
            for _ in range(3):
                clf = LoPAClassifier(backbone, **SMALL).fit(TEXTS, LABELS)
                found.append(clf.predict_proba(TEXTS))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert len(found) == 12
    for values in found:
        np.testing.assert_array_equal(values, expected)


@pytest.mark.stress
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork")
def test_a_forked_child_fits_and_predicts_while_its_parent_does():
    clf = LoPAClassifier(tiny.backbone(), **SMALL).fit(TEXTS, LABELS)
    ends = threading.Event()

    def predict():
        i = 0
        while not ends.is_set():
            i += 1
            clf.predict([f"good {i} {j}" for j in range(20)])

    n_threads = torch.get_num_threads()
    torch.set_num_threads(2)  # threads that a child does not have
    thread = threading.Thread(target=predict)
    thread.start()
    try:
        statuses = [_status_of_child(clf, i) for i in range(5)]
    finally:
        ends.set()
        thread.join()
        torch.set_num_threads(n_threads)
    assert statuses == [0] * 5


def _status_of_child(clf, i):
    """Exit status of a forked process that fits and predicts; None if it hangs."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            clf.predict([f"fine {i}"])
            LoPAClassifier(clf.model, **SMALL).fit(TEXTS, LABELS).predict(TEXTS)
            status = 0
        finally:
            os._exit(status)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None
