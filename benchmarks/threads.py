"""A fit on an idle machine and on a busy one, by the number of torch's threads.

    python benchmarks/threads.py [--rows 256]

Each fit is one epoch of the default classifier on the intents that come with the package, in a
process of its own, after a small fit that loads the backbone. On the busy machine as many
processes as there are CPUs count for as long as it lasts. "all" has as many threads as torch takes
by itself; "chosen" is what the library takes without a `random_state`, and "chosen, seed" with
one. The last line says whether the bits of a fit are the same with one thread and with all.
"""

import argparse
import contextlib
import hashlib
import os
import subprocess
import sys
import time
import warnings

from harness import Runs, machine, print_header, print_row

WAYS = {"all": (None, True), "chosen": (None, False), "chosen, seed": (0, False), "one": (None, 1)}


def run(options, method, seed):
    """Seconds of a fit, and what stands for its weights."""
    import torch

    from sklopa import LoPAClassifier
    from sklopa.datasets import load_intents

    random_state, fixed = WAYS[method]
    if fixed:
        n_threads = torch.get_num_threads() if fixed is True else fixed
        os.environ["SKLOPA_NUM_THREADS"] = str(n_threads)
    texts, labels = load_intents(return_X_y=True)
    model = LoPAClassifier(max_iter=1, random_state=random_state if seed < 0 else seed)
    warnings.simplefilter("ignore")
    model.fit(texts[:32], labels[:32])
    with busy(options.load):
        started = time.perf_counter()
        model.fit(texts[: options.rows], labels[: options.rows])
        seconds = time.perf_counter() - started
    digest = hashlib.sha256()
    for _, value in sorted(model._fitted_network().weights.items()):
        digest.update(value.tobytes())
    return {"seconds": seconds, "weights": digest.hexdigest()}


@contextlib.contextmanager
def busy(n):
    """Within this context `n` processes do nothing but count."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--load", type=int, default=0, help=argparse.SUPPRESS)
    runs = Runs(run, parser)
    print(f"{machine()}\n")
    print_header("threads", "idle, s", "busy, s")
    for method in WAYS:
        cells = [f"{runs(method, -1, load=n)['seconds']:.1f}" for n in (0, os.cpu_count())]
        print_row(method, *cells)
    same = len({runs(method, 0)["weights"] for method in ("all", "one")}) == 1
    print(f"\nThe bits are {'the same' if same else 'other ones'} with one thread and with all.")


if __name__ == "__main__":
    main()
