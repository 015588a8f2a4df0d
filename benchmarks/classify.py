"""Accuracy and cost of a linear probe, prompt tuning and LoPA on one task file.

    python benchmarks/classify.py --data-dir DIR --task sst2
    python benchmarks/classify.py --data-dir DIR --task stsb

reads DIR/sst2.train.jsonl and DIR/sst2.dev.jsonl (or .test.jsonl): JSON Lines with "text",
perhaps "text_pair", and "label". Where labels are decimal numbers the task is a regression. The
score is the accuracy in percent, or 100 times Pearson's correlation. Each method runs in a
process of its own, so that its peak memory is its own.
"""

import argparse
import pickle

import numpy as np
from harness import Runs, machine, mean_of, peak_mib, print_header, print_row, read_labelled

METHODS = {
    "linear probe": {"prompt_length": 0},
    "prompt tuning": {"rank": 0},
    "LoPA": {},
}


def run(options, method, seed):
    """Fit one method once; a dictionary of figures."""
    from sklopa import LoPAClassifier, LoPARegressor

    texts, labels = read_labelled(options.data_dir, options.task, "train")
    held_out, truth = read_labelled(options.data_dir, options.task, "eval")
    if options.rows:
        texts, labels = texts[: options.rows], labels[: options.rows]
    model = {"model": options.model} if options.model else {}
    regresses = labels.dtype.kind == "f"
    estimator = (LoPARegressor if regresses else LoPAClassifier)(
        **model, **METHODS[method], random_state=seed
    )
    predicted = estimator.fit(texts, labels).predict(held_out)
    score = np.corrcoef(predicted, truth)[0, 1] if regresses else np.mean(predicted == truth)
    return {
        "score": 100 * float(score),
        "seconds": float(np.median([r["seconds"] for r in estimator.history_])),
        "epochs": estimator.n_iter_,
        "parameters": estimator.n_trainable_parameters_,
        "bytes": len(pickle.dumps(estimator)),
        "peak": peak_mib(),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--task", default="sst2")
    parser.add_argument("--model", help="hub id or folder; default: the classifier's own")
    parser.add_argument("--rows", type=int, default=0, help="training rows; 0 takes all")
    parser.add_argument("--seeds", type=int, default=3)
    runs = Runs(run, parser)
    options = runs.options
    print(f"{options.task}, {options.seeds} seeds; {machine()}\n")
    print_header(
        "method", "score", "spread", "s an epoch", "epochs", "parameters", "pickle kB",
        "peak MiB",
    )  # fmt: skip
    for method in METHODS:
        done = [runs(method, seed) for seed in range(options.seeds)]
        mean = mean_of(done)
        print_row(
            method,
            f"{mean['score']:.2f}",
            f"{np.std([r['score'] for r in done]):.2f}",
            f"{mean['seconds']:.2f}",
            f"{mean['epochs']:.1f}",
            f"{mean['parameters']:,.0f}",
            f"{mean['bytes'] / 1000:,.0f}",
            f"{mean['peak']:,.0f}",
        )


if __name__ == "__main__":
    main()
