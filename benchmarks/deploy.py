"""What a deployment without torch takes: `OnnxPredictor` beside the estimator that wrote it.

    python benchmarks/deploy.py --data-dir DIR

fits on rows of DIR/sst2.train.jsonl with the default model, writes two tasks with `to_onnx`, and
lets each side predict other rows in a process of its own, on one thread. Nothing is known of these
rows before: the cache is emptied. `--busy` counts seconds of the processor in place of those of the
clock, for a machine that does other work as well.
"""

import argparse
import re
import statistics
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
from harness import Runs, machine, peak_mib, print_header, print_row, read_labelled

SIDES = ("predict", "OnnxPredictor")
# What pip installs for each.
INSTALLED = {
    "predict": ["sklopa"],
    "OnnxPredictor": ["onnxruntime", "tokenizers", "scikit-learn"],
}


def installed_mib(names):
    """Size of installed packages with all that they need."""
    todo, found = list(names), {}
    while todo:
        name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
        if name in found:
            continue
        try:
            package = distribution(name)
        except PackageNotFoundError:  # needed on other systems alone
            continue
        paths = [Path(package.locate_file(file)) for file in package.files or []]
        found[name] = sum(path.stat().st_size for path in paths if path.is_file())
        needs = [need for need in package.requires or [] if "extra ==" not in need]
        todo += [re.match(r"[\w.-]+", need).group() for need in needs]
    return sum(found.values()) / 2**20


def resident_mib():
    """Memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def write(options):
    """Two tasks over one model, as estimators and as graphs."""
    from sklopa import LoPAClassifier

    texts, labels = read_labelled(options.data_dir, "sst2", "train")
    texts, labels = texts[: options.rows], labels[: options.rows]
    folder = Path(options.folder)
    for i, name in enumerate(("one", "two")):
        clf = LoPAClassifier(random_state=i, max_iter=options.epochs).fit(texts, labels)
        clf.save(folder / f"{name}.sklopa")
        clf.to_onnx(folder / "graphs" / name)
    files = {path.name: path.stat().st_size / 2**20 for path in (folder / "graphs").iterdir()}
    shared = sum(size for name, size in files.items() if "-" in name)
    return {"shared": shared, "own": (sum(files.values()) - shared) / 2}


def load_side(options, side, name):
    """What predicts, from the files of a task."""
    folder = Path(options.folder)
    if side == "predict":
        import torch

        from sklopa import load

        torch.set_num_threads(options.threads)
        return load(folder / f"{name}.sklopa")
    from sklopa import OnnxPredictor

    return OnnxPredictor(folder / "graphs" / name, n_threads=options.threads)


def run(options, method, seed):
    """Figures of one side, or of what is written for both."""
    if method == "write":
        return write(options)
    texts, _ = read_labelled(options.data_dir, "sst2", "train")
    texts = texts[options.rows : options.rows + options.many]
    clock = clock_of(options)
    started, before = clock(), resident_mib()
    model = load_side(options, method, "one")
    model.predict_proba(texts[:1])
    figures = {"start": clock() - started, "held": resident_mib() - before}
    other = load_side(options, method, "two")
    other.predict_proba(texts[:1])
    figures["second"] = resident_mib() - before - figures["held"]
    one = [timed(clock, model, [text])[0] for text in texts[1:31]]
    many = [timed(clock, model, texts) for _ in range(options.repeats)]
    np.save(Path(options.folder, f"{method}.npy"), many[-1][1])
    return figures | {
        "one": 1000 * statistics.median(one),
        "many": len(texts) / statistics.median(seconds for seconds, _ in many),
        "peak": peak_mib(),
        "torch": float("torch" in sys.modules),
    }


def clock_of(options):
    """What seconds are counted by."""
    return time.process_time if options.busy else time.perf_counter


def timed(clock, model, texts):
    """Seconds of a prediction of which nothing is known, and what it gave."""
    from sklopa import cache_clear

    cache_clear()
    started = clock()
    outputs = model.predict_proba(texts)
    return clock() - started, outputs


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", required=True, help="folder with sst2.train.jsonl")
    parser.add_argument("--rows", type=int, default=300, help="rows to fit on")
    parser.add_argument("--many", type=int, default=5000, help="rows to predict at once")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--busy", action="store_true", help="count seconds of the processor")
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    runs = Runs(run, parser)
    print(f"SST-2, {runs.options.threads} thread(s); {machine()}\n")
    with tempfile.TemporaryDirectory() as folder:
        written = runs("write", 0, folder=folder)
        done = {side: runs(side, 0, folder=folder) for side in SIDES}
        first, second = (np.load(Path(folder, f"{side}.npy")) for side in SIDES)
    print_header("what", *SIDES, "ratio")
    rows = {
        "MiB of packages": {side: installed_mib(INSTALLED[side]) for side in SIDES},
        "s to import, load, and predict one row": "start",
        "MiB held then": "held",
        "MiB more with a second task": "second",
        "MiB at the most": "peak",
        "ms a row, one at a time": "one",
        f"rows a second, {runs.options.many} rows": "many",
    }
    for name, what in rows.items():
        values = [what[s] if isinstance(what, dict) else done[s][what] for s in SIDES]
        cells = [f"{value:,.2f}" if value < 100 else f"{value:,.0f}" for value in values]
        print_row(name, *cells, f"{values[1] / values[0]:.2f}")
    print(
        f"\nFiles: {written['shared']:.1f} MiB for all tasks, {written['own']:.2f} MiB a task. "
        f"Largest difference of a probability: {np.abs(first - second).max():.1e}. "
        f"torch was loaded by {SIDES[1]}: {bool(done[SIDES[1]]['torch'])}."
    )


if __name__ == "__main__":
    main()
