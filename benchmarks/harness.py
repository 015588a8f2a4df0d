"""What the benchmarks share: task files, runs in processes of their own, tables."""

import argparse
import copy
import json
import os
import platform
import resource
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np


def read_jsonl(path):
    """The rows of a JSON Lines file."""
    with Path(path).open(encoding="utf-8") as handle:
        return [json.loads(line) for line in handle]


def read_labelled(data_dir, task, split):
    """Texts (or pairs) and labels; split "eval" is the task's dev or test file."""
    names = [split] if split == "train" else ["dev", "test"]
    rows = read_jsonl(next(p for n in names if (p := Path(data_dir, f"{task}.{n}.jsonl")).exists()))
    pairs = "text_pair" in rows[0]
    texts = [(row["text"], row["text_pair"]) if pairs else row["text"] for row in rows]
    return texts, np.array([row["label"] for row in rows])


def save_plain(described, folder):
    """A decoder as a folder of plain weights, from whatever form it is installed in."""
    import transformers

    from sklopa import load_model

    frozen, tokenizer = load_model(described)
    config = copy.deepcopy(frozen.config)
    config.__dict__.pop("quantization_config", None)
    plain = transformers.AutoModelForCausalLM.from_config(config)
    plain.load_state_dict(frozen.state_dict())
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def peak_mib():
    """Most memory that this process has held, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def machine():
    """Processor, threads and versions in one line."""
    cpu = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        named = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = named[0].partition(":")[2].strip() if named else cpu
    found = [f"Python {platform.python_version()}"]
    for package in ("torch", "transformers", "scikit-learn", "peft", "skorch"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return f"{cpu}, {os.cpu_count()} cores; {', '.join(found)}"


class Runs:
    """Calls of a function, each in a process of its own, so that its peak memory is its own.

    Parameters
    ----------
    run : callable (options, method, seed) -> dict of figures
    parser : argparse.ArgumentParser
        The benchmark's own arguments. `Runs` adds "--results FILE", in which finished runs are
        kept; a benchmark that is started again goes on from it.
    """

    def __init__(self, run, parser):
        parser.add_argument("--results", help="JSON Lines file that keeps finished runs")
        parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
        self.run, self.options = run, parser.parse_args()
        if self.options.one:
            method, seed = self.options.one
            print(json.dumps(run(self.options, method, int(seed))))
            sys.exit()

    def __call__(self, method, seed, **change):
        """Figures of one run; `change` replaces arguments of the command line."""
        options = vars(self.options) | change
        hidden = {"one": None, "results": None}
        key = {"method": method, "seed": seed} | {
            k: v for k, v in options.items() if k not in hidden and not k.endswith("_dir")
        }
        known = [r for r in self._finished() if r["run"] == key]
        if known:
            return known[0]["figures"]
        figures = self._apart(options | hidden, method, seed)
        if self.options.results:
            with Path(self.options.results).open("a", encoding="utf-8") as handle:
                handle.write(json.dumps({"run": key, "machine": machine(), "figures": figures}))
                handle.write("\n")
        return figures

    def _finished(self):
        path = self.options.results and Path(self.options.results)
        return read_jsonl(path) if path and path.exists() else []

    def _apart(self, options, method, seed):
        command = [sys.executable, sys.argv[0], "--one", method, str(seed)]
        for name, value in options.items():
            if value is None or value is False or value == []:
                continue
            values = value if isinstance(value, list) else [value]
            command += [f"--{name.replace('_', '-')}"]
            command += [] if value is True else [str(v) for v in values]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{method}, seed {seed}:\n{done.stderr}")
        return json.loads(done.stdout.splitlines()[-1])


def mean_of(runs):
    """Mean of each figure over several runs."""
    return {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}


def print_header(*names):
    """First two lines of a table."""
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}", flush=True)


def print_row(*cells):
    """One line of a table."""
    print(f"| {' | '.join(cells)} |", flush=True)
