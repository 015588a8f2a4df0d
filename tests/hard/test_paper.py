"""`benchmarks/paper.py`: every method runs on every task, in small."""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny

from sklopa import load_model

pytestmark = pytest.mark.stress

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TEXTS = ["good film", "bad book", "awful plot", "the fine film", "a very bad plot", "it was good"]


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    pytest.importorskip("peft", reason="the benchmark compares with LoRA, through peft")
    sys.path.insert(0, str(BENCHMARKS))
    import paper

    yield paper
    sys.path.remove(str(BENCHMARKS))
    for name in ("paper", "compare", "generate", "harness"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """Rows of every task, and a tiny decoder."""
    folder = tmp_path_factory.mktemp("paper")
    labelled = [
        {"text": text, "label": ["negative", "positive"][i % 2]} for i, text in enumerate(TEXTS * 2)
    ]
    pairs = [
        {"text": text, "text_pair": "good", "label": ["equivalent", "not_equivalent"][i % 2]}
        for i, text in enumerate(TEXTS * 2)
    ]
    written = [{"source": t, "target": "yes", "references": ["yes", "yes yes"]} for t in TEXTS * 2]
    programs = [{"code": "the plot", "input": "1", "output": "2"}] * 420
    for name, rows in {
        "sst2.train": labelled, "sst2.dev": labelled, "mrpc.train": pairs, "mrpc.test": pairs,
        "e2e.train": written, "e2e.test": written, "cruxeval": programs,
    }.items():  # fmt: skip
        text = "\n".join(map(json.dumps, rows))
        Path(folder, f"{name}.jsonl").write_text(text, encoding="utf-8")
    return {
        "data_dir": str(folder), "model": tiny.save(folder / "llama", "llama"), "gemma_dir": None,
        "rows": 8, "epochs": 1, "batch_size": 2, "held_out": 2, "test_rows": 3, "new_tokens": 3,
        "generate_rows": 2, "samples": 2, "rate": None,
    }  # fmt: skip


@pytest.fixture
def problems(paper, monkeypatch):
    """Problems of HumanEval's form, and words that the tiny model knows."""
    problem = {
        "prompt": "def f():\n", "canonical_solution": "    return 1\n", "entry_point": "f",
        "test": "def check(candidate):\n    assert candidate() == 1\n",
    }  # fmt: skip
    monkeypatch.setattr(paper, "human_eval", lambda: [problem] * 8)
    known = {
        "sst2": ("{text} it was", {"positive": "good", "negative": "bad"}),
        "mrpc": ("{text} {text_pair} the", {"equivalent": "yes", "not_equivalent": "no"}),
    }
    monkeypatch.setattr(paper, "QUESTIONS", known)


def methods_and_tasks():
    tasks = ["sst2", "mrpc", "e2e", "cruxeval-o", "cruxeval-i", "humaneval"]
    methods = ["frozen", "full fine-tuning", "LoRA", "prompt tuning", "IDPG", "LoPA"]
    return [(method, task) for method in methods for task in tasks]


@pytest.mark.parametrize(("method", "task"), methods_and_tasks())
def test_every_method_runs_on_every_task(paper, options, problems, method, task):
    figures = paper.run(argparse.Namespace(task=task, **options), method, 0)
    assert {*paper.SCORES[task], "log_likelihood"} <= set(figures)
    assert ("rate" in figures) == (method not in ("frozen", "LoPA"))
    assert (figures["parameters"] > 0) == (method != "frozen")
    assert figures["log_likelihood"] < 0
    assert len(paper.cells_of([figures], task)) == len(paper.SCORES[task]) + 3


def test_all_methods_and_tasks_are_run(paper):
    assert [*dict.fromkeys(m for m, _ in methods_and_tasks())] == paper.METHODS
    assert [*dict.fromkeys(t for _, t in methods_and_tasks())] == list(paper.SCORES)


def test_label_words_are_read_alike_in_training_and_afterwards(paper, options, problems):
    """With nothing learned, the loss of the peers is that of our own reading."""
    import generate

    given = argparse.Namespace(task="mrpc", **options)
    rows, _, test = paper.draw(given, 0)
    own, _ = paper.fit(given, "frozen", None, rows, 0)
    xs, ys = ([row[i] for row in test] for i in (0, 1))
    asked, answers, loss = paper.as_questions(own, xs, ys)
    model, tokenizer = load_model(own.model)
    both = zip(asked, answers, strict=True)
    batch = generate.collate([generate.tokenize(tokenizer, *row) for row in both])
    np.testing.assert_allclose(
        float(loss(model, batch).detach()), -paper.log_likelihood(own, test), rtol=1e-4
    )


def test_a_model_that_is_too_large_is_left_out(paper, options, problems, monkeypatch):
    monkeypatch.setattr(paper, "fits_in_memory", lambda model: False)
    given = argparse.Namespace(task="sst2", **options)
    assert paper.run(given, "full fine-tuning", 0) == {}
    assert paper.cells_of([{}], "sst2")[0] == "does not fit"


def test_gemma_of_other_content_is_refused(paper, tmp_path):
    (tmp_path / paper.GEMMA).write_bytes(b"something else")
    with pytest.raises(SystemExit, match="SHA-256"):
        paper.gemma_folder(tmp_path)
