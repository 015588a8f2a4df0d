"""Time and memory against the peers, side by side in one run, as a table of ratios.

    python benchmarks/speed.py --data-dir DIR

reads DIR/sst2.train.jsonl. Every figure comes from a process of its own; each is taken
`--repeats` times with the order of the two sides changed about, and the medians are compared. The
peers are `peft` with `transformers.Trainer`, `peft` inside `skorch`, and
`transformers.pipeline`, with dynamic padding and the same batch, epochs, prompt length and data.
"""

import argparse
import pickle
import statistics
import tempfile
import time

import numpy as np
from harness import Runs, machine, peak_mib, print_header, print_row, read_labelled

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
LENGTHS, RANKS, FOLDS = [5, 10, 20], [0, 2, 4], 3
HALF_WAY = 3  # of the six layers of MODEL
N_SINGLE = 100  # texts that are predicted one by one


def data(options, n):
    """The first n training rows; rows beyond the file are repeats with a suffix."""
    texts, labels = read_labelled(options.data_dir, "sst2", "train")
    copies = -(-n // len(texts))
    texts = [text + (f" ({i})" if i else "") for i in range(copies) for text in texts]
    return texts[:n], list(labels) * copies


def folder():
    """Where the weights lie."""
    from sklopa import load_model

    return load_model(MODEL)[0].config.name_or_path


# ---------------------------------------------------------------------- our side


def fit_ours(options, n, **parameters):
    """Fit once; seconds of the whole fit, seconds an epoch, peak memory and bytes."""
    from sklopa import LoPAClassifier

    texts, labels = data(options, n)
    model = LoPAClassifier(MODEL, max_iter=options.epochs, random_state=0, **parameters)
    model.fit(texts[:32], labels[:32])  # the backbone is loaded
    started = time.perf_counter()
    model.fit(texts, labels[:n])
    whole = time.perf_counter() - started
    epoch = statistics.median(record["seconds"] for record in model.history_)
    return {"fit": whole, "epoch": epoch, "peak": peak_mib(), "bytes": len(pickle.dumps(model))}


def search_ours(options, **parameters):
    """A grid search over ranks and lengths."""
    from sklearn.model_selection import GridSearchCV

    from sklopa import LoPAClassifier, cache_info

    texts, labels = data(options, options.grid_rows)
    started = time.perf_counter()
    search = GridSearchCV(
        LoPAClassifier(MODEL, max_iter=options.epochs, random_state=0, **parameters),
        {"rank": RANKS, "prompt_length": LENGTHS},
        cv=FOLDS,
    )
    search.fit(texts, labels[: len(texts)])
    calls = cache_info().misses / len(set(texts))
    return {"seconds": time.perf_counter() - started, "peak": peak_mib(), "calls": calls}


def halving_ours(options, resumes):
    """Successive halving over 27 candidates: seconds, and what it found.

    Without the store of the process no candidate goes on from where it stood.
    """
    from sklearn.experimental import enable_halving_search_cv  # noqa: F401
    from sklearn.model_selection import HalvingGridSearchCV

    from sklopa import LoPAClassifier
    from sklopa._cache import process

    if not resumes:
        process.FITS.max_bytes = 0
    texts, labels = data(options, options.halving_rows)
    search = HalvingGridSearchCV(
        LoPAClassifier(MODEL, schedule="constant", random_state=0),
        {"rank": RANKS, "prompt_length": LENGTHS, "learning_rate": [5e-4, 1e-3, 2e-3]},
        cv=FOLDS, factor=2, resource="max_iter", min_resources=1,
        max_resources=options.halving_epochs, refit=False, random_state=0,
        return_train_score=False,
    )  # fmt: skip
    started = time.perf_counter()
    search.fit(texts, labels[: len(texts)])
    seconds = time.perf_counter() - started
    found = [repr(search.best_params_), search.cv_results_["mean_test_score"].tolist()]
    return {"seconds": seconds, "peak": peak_mib(), "found": found}


def predict_ours(options, dtype="auto", **parameters):
    """Rows a second of `predict`, and percent of them that are right."""
    from sklopa import Backbone, LoPAClassifier

    texts, labels = data(options, options.predict_rows)
    model = LoPAClassifier(Backbone(MODEL, dtype=dtype), max_iter=1, random_state=0, **parameters)
    model.fit(texts[:64], labels[:64])
    started = time.perf_counter()
    found = model.predict(texts)
    seconds = time.perf_counter() - started
    right = 100 * float(np.mean(found == np.asarray(labels[: len(texts)])))
    return {"rows": len(texts) / seconds, "right": right}


def memory_ours(options, work, n):
    """Most memory of a fit, or of a prediction, of n texts, MiB.

    The model is a small random one. Caches are full at once, so what grows is what rows take.
    """
    from transformers import AutoTokenizer, BertConfig, BertModel

    from sklopa import LoPAClassifier
    from sklopa._cache import process

    process.EMBEDDINGS.max_bytes = process.TOKENS.max_bytes = 1 << 20
    texts, labels = data(options, n)
    tokenizer = AutoTokenizer.from_pretrained(folder())
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=64, num_hidden_layers=1, num_attention_heads=4,
        intermediate_size=128,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as path:
        BertModel(config).save_pretrained(path)
        tokenizer.save_pretrained(path)
        model = LoPAClassifier(path, max_iter=1, random_state=0)
        n_learned = n if work == "fit" else 64
        model.fit(texts[:n_learned], labels[:n_learned])
        if work == "predict":
            model.predict(texts)
    return {"peak": peak_mib()}


def one_row_ours(options):
    """Milliseconds of `predict` for one text that it has not seen."""
    from sklopa import LoPAClassifier

    texts, labels = data(options, 2 * N_SINGLE + 64)
    model = LoPAClassifier(MODEL, max_iter=1, random_state=0).fit(texts[:64], labels[:64])
    return {"ms": median_ms(lambda text: model.predict([text]), texts[64:])}


def one_row_bare(options):
    """Milliseconds of the two forwards that `predict` of one text needs, and nothing else."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    texts, _ = data(options, 2 * N_SINGLE + 64)
    model, tokenizer = AutoModel.from_pretrained(folder()), AutoTokenizer.from_pretrained(folder())
    rows = [tokenizer(text, return_tensors="pt") for text in texts[64:]]
    prompt = torch.randn(1, 10, model.config.hidden_size)
    table = model.get_input_embeddings()

    def forwards(row):
        with torch.no_grad():
            model(**row)
            model(inputs_embeds=torch.cat([prompt, table(row["input_ids"])], dim=1))

    return {"ms": median_ms(forwards, rows)}


def median_ms(call, rows):
    """Median milliseconds of a call on the second half of rows; the first half warms up."""
    taken = []
    for row in rows:
        started = time.perf_counter()
        call(row)
        taken.append(1000 * (time.perf_counter() - started))
    return statistics.median(taken[len(taken) // 2 :])


def workers_ours(options, dtype="auto"):
    """What a second worker's copy of the weights adds, as a share of their size."""
    from joblib import Parallel, delayed

    held = []
    for n in (1, 2):
        with Parallel(n_jobs=2) as parallel:  # one worker imports and waits where n is 1
            held.append(sum(parallel(delayed(hold_backbone)(i < n, dtype) for i in range(2))))
    return {"share": held[1] - held[0]}


def hold_backbone(holds, dtype):
    """Cost of the weights in this worker as a share of their size, while others hold them too.

    The precision of training steps counts, where it is another one.
    """
    import gc

    from transformers import AutoModel, BertModel  # noqa: F401  (the libraries, imported)

    from sklopa import Backbone, LoPAClassifier, load_model

    backbone = Backbone(MODEL, dtype=dtype)
    load_model(backbone)  # tokenizer and code, which are not the weights, have been there before
    backbone.release()
    gc.collect()
    before, cost, size = proportional_mib(), 0.0, 1.0
    if holds:
        model, _ = load_model(backbone)
        LoPAClassifier(backbone, max_iter=1).fit(["a", "b"] * 8, [0, 1] * 8)
        for parameter in model.parameters():
            parameter.sum()  # every page is touched
        size = sum(p.numel() * p.element_size() for p in model.parameters()) / 2**20
    time.sleep(10)  # until the other worker is here too
    if holds:
        cost = proportional_mib() - before
    time.sleep(5)
    return cost / size


def proportional_mib():
    """Proportional set size of this process, MiB, without the code of shared libraries.

    The share of a library's pages depends on who else on the machine runs it just now.
    """
    total, is_library = 0, False
    with open("/proc/self/smaps", encoding="utf-8") as handle:
        for line in handle:
            first, *rest = line.split()
            if not first.endswith(":"):  # the first line of a mapping: address ... path
                is_library = ".so" in rest[-1]
            elif first == "Pss:" and not is_library:
                total += int(rest[0])
    return total / 1024


# ---------------------------------------------------------------------- the peers


def peft_model(length):
    """MiniLM with a classification head and prompt tuning, as `peft` documents it."""
    from peft import PromptTuningConfig, TaskType, get_peft_model
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder(), num_labels=2)
    config = PromptTuningConfig(task_type=TaskType.SEQ_CLS, num_virtual_tokens=length)
    return get_peft_model(model, config)


def fit_trainer(options, sampling):
    """`peft` prompt tuning through `transformers.Trainer`; seconds an epoch, bytes."""
    from transformers import (
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    texts, labels = data(options, options.rows)
    tokenizer = AutoTokenizer.from_pretrained(folder())
    classes = sorted(set(labels))
    rows = [
        dict(tokenizer(text, truncation=True), labels=classes.index(label))
        for text, label in zip(texts, labels[: len(texts)], strict=True)
    ]
    model = peft_model(10)
    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(
            output_dir=out, num_train_epochs=options.epochs, per_device_train_batch_size=32,
            learning_rate=1e-2, train_sampling_strategy=sampling, report_to=[], save_strategy="no",
            logging_strategy="no", disable_tqdm=True, use_cpu=True, dataloader_num_workers=0,
        )  # fmt: skip
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=rows,
            data_collator=DataCollatorWithPadding(tokenizer),
        )
        seconds = trainer.train().metrics["train_runtime"]
    return {"epoch": seconds / options.epochs, "bytes": len(pickle.dumps(model))}


def search_skorch(options):
    """The fits of `search_ours` with `skorch` and `peft`, written as skorch's documentation has it.

    `peft` has no rank, so each length is fitted three times, as the grid has three ranks.
    """
    import torch
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import Pipeline
    from skorch import NeuralNetClassifier
    from skorch.hf import HuggingfacePretrainedTokenizer

    class Prompted(torch.nn.Module):
        def __init__(self, length=10, copy=0):
            super().__init__()
            self.model = peft_model(length)

        def forward(self, **inputs):
            return self.model(**inputs).logits

    def collate(rows):
        """Only as much padding as the longest row of the batch needs."""
        batch, target = torch.utils.data.default_collate(rows)
        longest = int(batch["attention_mask"].sum(dim=1).max())
        return {name: value[:, :longest] for name, value in batch.items()}, target

    texts, labels = data(options, options.grid_rows)
    classes = sorted(set(labels))
    pipeline = Pipeline(
        [
            ("tokenizer", HuggingfacePretrainedTokenizer(folder(), max_length=128)),
            (
                "net",
                NeuralNetClassifier(
                    Prompted, criterion=torch.nn.CrossEntropyLoss, optimizer=torch.optim.AdamW,
                    lr=1e-2, max_epochs=options.epochs, batch_size=32, train_split=None, verbose=0,
                    iterator_train__shuffle=True, iterator_train__collate_fn=collate,
                    iterator_valid__collate_fn=collate,
                ),
            ),
        ]
    )  # fmt: skip
    started = time.perf_counter()
    grid = {"net__module__length": LENGTHS, "net__module__copy": range(len(RANKS))}
    search = GridSearchCV(pipeline, grid, cv=FOLDS, scoring="accuracy")
    search.fit(texts, np.searchsorted(classes, labels[: len(texts)]))
    return {"seconds": time.perf_counter() - started, "peak": peak_mib()}


def predict_pipeline(options):
    """Rows a second of `transformers.pipeline`, batch 32, in the order that serves it best."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

    texts, _ = data(options, options.predict_rows)
    model = AutoModelForSequenceClassification.from_pretrained(folder(), num_labels=2)
    tokenizer = AutoTokenizer.from_pretrained(folder())
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")
    classify(texts[:32], batch_size=32)
    taken = []
    for order in (texts, sorted(texts, key=len)):
        started = time.perf_counter()
        classify(order, batch_size=32, truncation=True)
        taken.append(time.perf_counter() - started)
    return {"rows": len(texts) / min(taken)}


WORK = {
    "fit LoPA": lambda o: fit_ours(o, o.rows),
    "fit rank=0": lambda o: fit_ours(o, o.rows, rank=0),
    "fit 1000": lambda o: fit_ours(o, o.rows // 2),
    "fit 8000": lambda o: fit_ours(o, o.rows * 4),
    "fit half-way": lambda o: fit_ours(o, o.rows, prompt_layer=HALF_WAY),
    "fit peft": lambda o: fit_trainer(o, "random"),
    "fit peft, by length": lambda o: fit_trainer(o, "group_by_length"),
    "search": search_ours,
    "search half-way": lambda o: search_ours(o, prompt_layer=HALF_WAY),
    "search skorch": search_skorch,
    "halving": lambda o: halving_ours(o, resumes=True),
    "halving anew": lambda o: halving_ours(o, resumes=False),
    "predict": predict_ours,
    "predict half-way": lambda o: predict_ours(o, prompt_layer=HALF_WAY),
    "predict half-way, bfloat16": lambda o: predict_ours(o, "bfloat16", prompt_layer=HALF_WAY),
    "predict pipeline": predict_pipeline,
    "one row": one_row_ours,
    "one row bare": one_row_bare,
    "memory of fit": lambda o: memory_ours(o, "fit", o.memory_rows),
    "memory of fit, a tenth": lambda o: memory_ours(o, "fit", o.memory_rows // 10),
    "memory of predict": lambda o: memory_ours(o, "predict", o.memory_rows),
    "memory of predict, a tenth": lambda o: memory_ours(o, "predict", o.memory_rows // 10),
    "workers": workers_ours,
    "workers float32": lambda o: workers_ours(o, "float32"),
}
# What is compared: a line, (work, figure) of ours and of the other side, the goal. The ratio is
# ours / theirs where the goal is "of theirs", else theirs / ours.
LINES = [
    ("s an epoch, peft with random batches", ("fit LoPA", "epoch"), ("fit peft", "epoch"),
     ">= 3.4"),
    ("s an epoch, peft with batches by length", ("fit LoPA", "epoch"),
     ("fit peft, by length", "epoch"), ">= 2.1"),
    ("the same half-way, random batches", ("fit half-way", "epoch"), ("fit peft", "epoch"),
     ">= 8"),
    ("the same half-way, batches by length", ("fit half-way", "epoch"),
     ("fit peft, by length", "epoch"), ">= 5"),
    ("s an epoch, rank=0", ("fit LoPA", "epoch"), ("fit rank=0", "epoch"), "<= 1.05 of theirs"),
    ("s for 27 fits and a refit, skorch", ("search", "seconds"), ("search skorch", "seconds"),
     ">= 2.5"),
    ("the same half-way", ("search half-way", "seconds"), ("search skorch", "seconds"), ">= 4"),
    ("peak MiB of it, skorch", ("search", "peak"), ("search skorch", "peak"), ">= 1"),
    ("s of halving over 27 candidates, each trained anew", ("halving", "seconds"),
     ("halving anew", "seconds"), ">= 1.5"),
    ("rows a second, pipeline", ("predict", "rows"), ("predict pipeline", "rows"),
     ">= 1.0 of theirs"),
    ("the same half-way", ("predict half-way", "rows"), ("predict pipeline", "rows"),
     ">= 1.6 of theirs"),
    ("the same half-way, bfloat16", ("predict half-way, bfloat16", "rows"),
     ("predict pipeline", "rows"), ">= 3 of theirs"),
    ("percent right of it, float32", ("predict half-way, bfloat16", "right"),
     ("predict half-way", "right"), "within 0.3 of theirs"),
    ("ms for one row, two bare forwards", ("one row", "ms"), ("one row bare", "ms"),
     "<= 1.3 of theirs"),
    ("pickled bytes, peft", ("fit LoPA", "bytes"), ("fit peft", "bytes"), ">= 30"),
    ("s to fit 8 times the rows", ("fit 8000", "fit"), ("fit 1000", "fit"), "<= 8.4 of theirs"),
    ("peak MiB of a prediction of ten times the texts", ("memory of predict", "peak"),
     ("memory of predict, a tenth", "peak"), "<= 1.1 of theirs"),
    ("peak MiB of a fit on ten times the texts", ("memory of fit", "peak"),
     ("memory of fit, a tenth", "peak"), "<= 2 of theirs"),
]  # fmt: skip
ALONE = [
    ("encoder calls for each distinct text of the grid", ("search", "calls"), "= 1"),
    ("memory that a second worker adds, of the weights", ("workers", "share"), "<= 0.2"),
    ('the same with dtype="float32"', ("workers float32", "share"), "<= 0.2"),
]
# Runs that must find the same, in all their repeats.
SAME = [("winner and scores of halving, as trained anew", ("halving", "halving anew"), "found")]


def run(options, method, seed):
    """One figure of one side."""
    return WORK[method](options)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--grid-rows", type=int, default=300)
    parser.add_argument("--predict-rows", type=int, default=5000)
    parser.add_argument("--halving-rows", type=int, default=90)
    parser.add_argument("--halving-epochs", type=int, default=16)
    parser.add_argument("--memory-rows", type=int, default=100_000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=list(WORK), choices=WORK, metavar="WORK")
    runs = Runs(run, parser)
    work = [name for name in WORK if name in runs.options.only]
    figures = {name: [] for name in work}
    for repeat in range(runs.options.repeats):
        for name in work[:: 1 if repeat % 2 == 0 else -1]:
            figures[name].append(runs(name, repeat, only=[], repeats=None))

    def middle(name, figure):
        return statistics.median(run[figure] for run in figures[name])

    print(f"{machine()}\n")
    print_header("what, against whom", "ours", "theirs", "ratio", "goal")
    for line, ours, other, goal in LINES:
        if ours[0] not in figures or other[0] not in figures:
            continue
        a, b = middle(*ours), middle(*other)
        ratio = a / b if goal.endswith("of theirs") else b / a
        print_row(line, f"{a:,.2f}", f"{b:,.2f}", f"{ratio:.2f}", goal)
    for line, names, figure in SAME:
        if all(name in figures for name in names):
            found = [run[figure] for name in names for run in figures[name]]
            print_row(
                line, "", "", "same" if all(f == found[0] for f in found) else "differ", "same"
            )
    for line, ours, goal in ALONE:
        if ours[0] not in figures:
            continue
        print_row(line, f"{middle(*ours):,.2f}", "", "", goal)


if __name__ == "__main__":
    main()
