"""What a later step makes of features: of one fit, cross-fitted, and of no fit at all.

    python benchmarks/features.py --data-dir DIR

Two tasks. "reviews" reads DIR/sst2.train.jsonl and its dev file: the text is all there is. In
"messages", those that come with the package, the label hangs on the text and on two numbers. What
`fit_transform` hands on with ``cv=False`` and with ``cv=5``, and the frozen embeddings, each go,
numbers beside them, to three later steps; accuracy in percent on the rows of the fit, and on rows
that no step was fitted on. Means over the seeds, with the standard deviation of the last.
"""

import argparse
import time

import numpy as np
from harness import Runs, machine, mean_of, print_header, print_row, read_labelled

WAYS = {"cv=False": "features of one fit", "cv=5": "cross-fitted", "probe": "embeddings"}


def later_steps():
    """Classifiers of features, by name."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    chosen = LogisticRegressionCV(Cs=10, cv=5, max_iter=2000)
    return {
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
        "the same, penalty by CV": make_pipeline(StandardScaler(), chosen),
        "boosted trees": HistGradientBoostingClassifier(max_iter=60, random_state=0),
    }


def reviews(options, seed):
    """Texts, numbers (none) and labels to fit on, and to test on."""
    from sklearn.utils import shuffle

    texts, labels = shuffle(*read_labelled(options.data_dir, "sst2", "train"), random_state=seed)
    test = read_labelled(options.data_dir, "sst2", "eval")
    parts = [(texts[: options.rows], labels[: options.rows]), test]
    return [(X, np.empty((len(X), 0)), y) for X, y in parts]


def messages(options, seed):
    """The same of messages that are answered by phone or by mail."""
    from sklearn.model_selection import train_test_split

    from sklopa.datasets import load_intents

    frame = load_intents(as_frame=True).frame
    random = np.random.RandomState(0)
    value, days = random.lognormal(4, 0.8, len(frame)), random.randint(0, 60, len(frame))
    money = frame["intent"].isin(["payment_problem", "refund_status", "return_item"])
    parcel = frame["intent"].isin(["track_order", "change_address", "cancel_order"])
    by_phone = money & (value > 40) | parcel & (days < 30)
    labels = np.where(by_phone ^ (random.rand(len(frame)) < 0.03), "phone", "mail")
    both = train_test_split(
        np.arange(len(frame)), train_size=options.rows, stratify=labels, random_state=seed
    )
    numbers = np.column_stack([value, days])
    return [(frame["text"].iloc[rows], numbers[rows], labels[rows]) for rows in both]


TASKS = {"reviews": reviews, "messages": messages}


def run(options, method, seed):
    """Accuracies on training and test rows, by way and later step, and of the text alone."""
    from sklopa import LoPAClassifier

    (texts, numbers, labels), (new, new_numbers, truth) = TASKS[method](options, seed)
    model = LoPAClassifier(max_iter=options.epochs, random_state=seed, cv=5)
    started = time.perf_counter()
    handed_on = {"cv=5": model.fit_transform(texts, labels)}
    figures = {"seconds cv=5": time.perf_counter() - started}
    figures["seconds cv=False"] = sum(record["seconds"] for record in model.history_)
    figures["alone"] = model.score(new, truth)
    probe = LoPAClassifier(prompt_length=0, random_state=seed).fit(texts, labels)
    handed_on |= {"cv=False": model.transform(texts), "probe": probe.transform(texts)}
    known = {"cv=5": model.transform(new), "probe": probe.transform(new)}
    known["cv=False"] = known["cv=5"]
    for way in WAYS:
        train, test = np.hstack([handed_on[way], numbers]), np.hstack([known[way], new_numbers])
        for name, step in later_steps().items():
            step.fit(train, labels)
            figures[f"{way}, {name}, train"] = step.score(train, labels)
            figures[f"{way}, {name}, test"] = step.score(test, truth)
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=3)
    runs = Runs(run, parser)
    print(f"{runs.options.rows} rows, {runs.options.seeds} seeds; {machine()}")
    for task in TASKS:
        done = [runs(task, seed, seeds=None) for seed in range(runs.options.seeds)]
        mean = mean_of(done)
        print(
            f"\n{task}: LoPA on the text alone {100 * mean['alone']:.1f}; its epochs take "
            f"{mean['seconds cv=False']:.0f} s, `fit_transform` with cv=5 "
            f"{mean['seconds cv=5']:.0f} s\n"
        )
        print_header("features", "later step", "training rows", "test rows", "spread")
        for way, words in WAYS.items():
            for name in later_steps():
                train, test = (f"{way}, {name}, {part}" for part in ("train", "test"))
                print_row(
                    words, name, f"{100 * mean[train]:.1f}", f"{100 * mean[test]:.1f}",
                    f"{100 * np.std([figures[test] for figures in done]):.1f}",
                )  # fmt: skip


if __name__ == "__main__":
    main()
