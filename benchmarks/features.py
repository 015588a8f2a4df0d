"""What a step of a pipeline makes of features: of one fit, and cross-fitted.

    python benchmarks/features.py --data-dir DIR [--rows 300]

reads DIR/sst2.train.jsonl and its dev file. The classifier alone; then a logistic regression on
what `fit_transform` hands on with ``cv=False`` and with ``cv=5``: accuracy on the rows that it was
fitted on, and on rows that nobody was fitted on. Means over the seeds.
"""

import argparse
import time

from harness import Runs, machine, mean_of, print_header, print_row, read_labelled

WAYS = {"LoPA alone": None, "cv=False": False, "cv=5": 5}


def run(options, method, seed):
    """Accuracies on training and test rows."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.utils import shuffle

    from sklopa import LoPAClassifier

    texts, labels = read_labelled(options.data_dir, "sst2", "train")
    texts, labels = shuffle(texts, labels, random_state=seed)
    texts, labels = texts[: options.rows], labels[: options.rows]
    held_out = read_labelled(options.data_dir, "sst2", "eval")
    held_out = [column[: options.test_rows] for column in held_out]
    model = LoPAClassifier(max_iter=options.epochs, random_state=seed)
    if WAYS[method] is not None:
        model.set_params(cv=WAYS[method])
        model = make_pipeline(model, StandardScaler(), LogisticRegression(max_iter=1000))
    started = time.perf_counter()
    if WAYS[method] is None:
        model.fit(texts, labels)
        return {
            "train": model.score(texts, labels),
            "test": model.score(*held_out),
            "seconds": time.perf_counter() - started,
        }
    handed_on = model[0].fit_transform(texts, labels)
    model[1:].fit(handed_on, labels)
    seconds = time.perf_counter() - started
    train = model[1:].score(handed_on, labels)
    return {"train": train, "test": model.score(*held_out), "seconds": seconds}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--test-rows", type=int, default=872)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=3)
    runs = Runs(run, parser)
    print(f"{machine()}\n")
    print_header("features", "training rows", "test rows", "seconds")
    for method in WAYS:
        figures = mean_of([runs(method, seed) for seed in range(runs.options.seeds)])
        cells = [f"{100 * figures[name]:.1f}" for name in ("train", "test")]
        print_row(method, *cells, f"{figures['seconds']:.0f}")


if __name__ == "__main__":
    main()
