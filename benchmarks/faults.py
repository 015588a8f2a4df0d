"""Faults that were tried, survived and lost, as a table. The code is that of the tests.

python benchmarks/faults.py            # about a quarter of an hour
python benchmarks/faults.py --quick    # about three minutes
"""

import argparse
import os
import sys
import tempfile
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "fakes"))

os.environ["HF_HUB_OFFLINE"] = "1"  # read when the hub's library is imported
import silence
import torch

silence.install()
torch.set_num_threads(1)

import faults  # noqa: E402
import pressure  # noqa: E402
import strangers  # noqa: E402

import sklopa  # noqa: E402


def hostile_zip_files() -> faults.Outcome:
    """Load every zip file that a stranger could send; each must be refused."""
    outcome = faults.Outcome()
    with tempfile.TemporaryDirectory() as temporary:
        for name, path in faults.hostile_zip_files(Path(temporary)).items():
            try:
                sklopa.load(path)
                outcome.count(f"{name} was loaded")
            except sklopa.errors.SklopaError:
                outcome.count(None)
            except Exception as error:
                outcome.count(f"{name}: {error!r}")
    return outcome


def under_pressure() -> faults.Outcome:
    """Run each case of trouble around an estimator."""
    outcome = faults.Outcome()
    for name, case in pressure.CASES.items():
        with tempfile.TemporaryDirectory() as temporary:
            try:
                case(Path(temporary))
                outcome.count(None)
            except Exception as error:
                outcome.count(f"{name}: {error!r}")
    return outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the random faults")
    scale = 10 if parser.parse_args().quick else 1
    warnings.simplefilter("ignore")
    outcomes = faults.damaged_archives(750 // scale)
    outcomes |= faults.forged_archives(150 // scale)
    outcomes |= faults.forged_state(150 // scale)
    outcomes |= strangers.forged_skops(100 // scale)
    outcomes["folder of somebody else"] = strangers.foreign_folders(150 // scale)
    outcomes["poisoned cache"] = strangers.poisoned_caches(150 // scale)
    silence.allow_loopback(True)
    outcomes["hostile server"] = strangers.hostile_servers(100 // scale)
    silence.allow_loopback(False)
    outcomes["program that only looks right"] = strangers.fakes_of_programs()
    outcomes["hostile zip file"] = hostile_zip_files()
    outcomes["save to a zip file, killed"] = faults.killed_saves(40 // scale, "clf.zip")
    outcomes["save to a folder, killed"] = faults.killed_saves(40 // scale, "clf")
    outcomes["fit with checkpoints, killed"] = faults.killed_fits(50 // scale)
    outcomes["memory, disks, processes, threads"] = under_pressure()
    print("| fault | tried | survived | lost |\n|---|---|---|---|")
    for name, outcome in outcomes.items():
        print(f"| {name} | {outcome.tried:,} | {outcome.survived:,} | {len(outcome.lost)} |")
    for name, outcome in outcomes.items():
        for problem in outcome.lost:
            print(f"lost, {name}: {problem}", file=sys.stderr)
    sys.exit(any(outcome.lost for outcome in outcomes.values()))


if __name__ == "__main__":
    main()
