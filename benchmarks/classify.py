"""Accuracy and cost of a linear probe, prompt tuning and LoPA on one task file.

    python benchmarks/classify.py --data-dir DIR --task sst2

reads DIR/sst2.train.jsonl and DIR/sst2.dev.jsonl (or .test.jsonl): JSON Lines with "text",
perhaps "text_pair", and "label". Each method runs in a process of its own, so that its peak
memory is its own.
"""

import argparse
import json
import pickle
import platform
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np

METHODS = {
    "linear probe": {"prompt_length": 0},
    "prompt tuning": {"rank": 0},
    "LoPA": {},
}


def read_task(data_dir, task, split):
    """Texts (or pairs) and labels of one split."""
    names = [split] if split == "train" else ["dev", "test"]
    path = next(p for n in names if (p := Path(data_dir) / f"{task}.{n}.jsonl").exists())
    rows = [json.loads(line) for line in path.open(encoding="utf-8")]
    pairs = "text_pair" in rows[0]
    texts = [(row["text"], row["text_pair"]) if pairs else row["text"] for row in rows]
    return texts, np.array([row["label"] for row in rows])


def run(options, method, seed):
    """Fit one method once; a dictionary of figures."""
    from sklopa import Backbone, LoPAClassifier

    texts, labels = read_task(options.data_dir, options.task, "train")
    held_out, truth = read_task(options.data_dir, options.task, "eval")
    if options.rows:
        texts, labels = texts[: options.rows], labels[: options.rows]
    model = {"model": options.model} if options.model else {}
    classifier = LoPAClassifier(**model, **METHODS[method], random_state=seed)
    classifier.fit(texts, labels)
    backbone = Backbone(classifier.model)
    return {
        "accuracy": 100 * classifier.score(held_out, truth),
        "seconds an epoch": float(np.median([r["seconds"] for r in classifier.history_])),
        "epochs": classifier.n_iter_,
        "trainable parameters": classifier.n_trainable_parameters_,
        "pickle bytes": len(pickle.dumps(classifier)),
        "peak MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "backbone": backbone.model,
    }


def run_apart(options, method, seed):
    """`run` in a process of its own."""
    command = [sys.executable, __file__, "--data-dir", options.data_dir, "--task", options.task]
    command += ["--one", method, "--seeds", str(seed), "--rows", str(options.rows)]
    command += ["--model", options.model] if options.model else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--task", default="sst2")
    parser.add_argument("--model", help="hub id or folder; default: the classifier's own")
    parser.add_argument("--rows", type=int, default=0, help="training rows; 0 takes all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--one", choices=METHODS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run(options, options.one, options.seeds)))
        return
    print(f"{options.task}, {options.seeds} seeds; {platform.processor() or platform.machine()}")
    print(
        "| method | accuracy | spread | s an epoch | epochs | parameters | pickle kB | peak MiB |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for method in METHODS:
        runs = [run_apart(options, method, seed) for seed in range(options.seeds)]
        mean = {k: np.mean([r[k] for r in runs]) for k in runs[0] if k != "backbone"}
        spread = np.std([r["accuracy"] for r in runs])
        print(
            f"| {method} | {mean['accuracy']:.2f} | {spread:.2f} | {mean['seconds an epoch']:.2f} "
            f"| {mean['epochs']:.1f} | {mean['trainable parameters']:,.0f} "
            f"| {mean['pickle bytes'] / 1000:,.0f} | {mean['peak MiB']:,.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
