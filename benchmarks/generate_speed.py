"""Rows a second of batched generation against one row at a time.

    python benchmarks/generate_speed.py

Both write the same number of new tokens for the same rows with a prompt for each row, and start
with an empty cache. The last line says how many texts are the same.
"""

import argparse
import time
import warnings

import numpy as np
from harness import machine, print_header, print_row

from sklopa import LoPAGenerator, cache_clear


def make_rows(n):
    """Sources of different length, and short targets."""
    random = np.random.RandomState(0)
    words = ["harbour", "violin", "lantern", "meadow", "copper", "winter", "engine", "orchard"]
    sources = [" ".join(random.choice(words, random.randint(5, 40))) for _ in range(n)]
    return sources, [f"{source.split()[0]} it is" for source in sources]


def seconds(work):
    """Time of one call, from an empty cache, and what it gave."""
    cache_clear()
    started = time.perf_counter()
    texts = work()
    return time.perf_counter() - started, texts


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    sources, targets = make_rows(options.rows)
    model = LoPAGenerator(max_iter=1, max_new_tokens=options.new_tokens, random_state=0)
    model.fit(sources[:8], targets[:8])
    work = {
        "one row at a time": lambda: [model.predict([source])[0] for source in sources],
        "batched": lambda: list(model.predict(sources)),
    }
    runs = {name: [] for name in work}
    for _ in range(options.repeats):
        for name, call in work.items():
            runs[name].append(seconds(call))
    print(f"{options.rows} rows, {options.new_tokens} new tokens; {machine()}\n")
    print_header("generation", "rows a second", "ratio")
    middle = {name: np.median([took for took, _ in done]) for name, done in runs.items()}
    for name, took in middle.items():
        ratio = middle["one row at a time"] / took
        print_row(name, f"{options.rows / took:.2f}", f"{ratio:.2f}")
    pairs = zip(*(runs[name][0][1] for name in work), strict=True)
    print(f"\n{sum(a == b for a, b in pairs)} of {options.rows} texts are the same")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
