"""The model families that sklopa takes, and how each of them does, as a table.

    python benchmarks/families.py

needs no data and no weights: each family is a tiny random model. The figures come from the
functions that the tests use, and say what the tests hold: the change of a text's states by
padding, of the outputs by zeroing the prompt, and the bytes of a fitted classifier's pickle.
"""

import sys
import warnings
from collections import Counter
from pathlib import Path

from harness import machine, print_header, print_row

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "fakes"))

import family_checks as checks
import tiny
import torch
from tiny import FAMILIES, REFUSED


def measure(name):
    """The cells of one family."""
    frozen = checks.frozen_of(name)
    generates = frozen.family.kind != "encoder"
    return [
        name,
        frozen.family.kind,
        "yes",
        "yes" if generates else "no",
        f"{checks.padding_error(frozen):.0e}",
        f"{checks.prompt_effect(frozen):.0e}",
        f"{checks.cache_error(frozen):.0e}" if generates else "",
        f"{checks.fit_from_half_precision(name)[-1]:,}",
    ]


def main():
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    known = [name for name in FAMILIES if tiny.is_known(name)]
    kinds = Counter(FAMILIES[name].kind for name in known)
    parts = ", ".join(f"{n} {kind}s" for kind, n in kinds.items())
    print(f"{len(known)} families ({parts}); {machine()}\n")
    print_header(
        "family", "kind", "classifier", "generator", "padding error", "prompt effect",
        "cache error", "pickle bytes",
    )  # fmt: skip
    for name in known:
        print_row(*measure(name))
    print(f"\nRefused by name: {', '.join(sorted(REFUSED))}.")


if __name__ == "__main__":
    main()
