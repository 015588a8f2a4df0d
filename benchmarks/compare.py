"""Ways to adapt one frozen model to a few labelled texts, on the same rows, epochs and seeds.

    python benchmarks/compare.py --data-dir DIR --tasks sst2 mrpc banking77 --rows 1000 --seeds 3

reads DIR/TASK.train.jsonl and DIR/TASK.dev.jsonl (or .test.jsonl): JSON Lines with "text", perhaps
"text_pair", and "label". With `--held-out N` the last N rows of the training file are read in place
of the dev file: that is where choices are made, `--set NAME=VALUE ...` being what is chosen.

The linear probe is a logistic regression, tuned by cross-validation, on the frozen embeddings; with
"two layers", on both views of a text that LoPA's head reads. "LoPA, later layer" joins the input of
the layer two thirds up. LoRA (through `peft`) and full fine-tuning read mean states through a
linear layer, a pair as one input; each has its learning rate chosen from RATES for each task, on a
fifth of the training rows of the first seed. SetFit (with a pair as one text) sees a few more texts
than the others see in their epochs. `--results FILE` keeps finished runs and goes on from them.

Methods that begin with "label words" run only where `--methods` names them. They ask a causal
language model (`--model`, by default that of `LoPAGenerator`) TEMPLATE, in a chat, and read what it
thinks of each label as the answer; a prompt is all that is trained. It stands at the start of the
user's message, in front of the whole chat, or in front of the text without a chat. For another
question there is `--set "template='{text} ...'"`.

    python benchmarks/compare.py --data-dir DIR --tasks sst2 --rows 300 --seeds 1 \\
        --methods "label words, no prompt" "label words, prompt in the message" \\
                  "label words, prompt in front" "label words, no chat"

The last columns are the expected calibration error in percent, trainable parameters, seconds to fit
(the choice of the rate left out), stored kB, and rows predicted a second.
"""

import argparse
import ast
import pickle
import time
from dataclasses import replace

import numpy as np
from harness import Runs, machine, mean_of, print_header, print_row, read_labelled

from sklopa import LoPAClassifier, LoPAGenerator

PROMPTS = {
    "prompt tuning": {"rank": 0},
    "IDPG": {"gate": "instance"},
    "LoPA": {},
    "LoPA, later layer": {"prompt_layer": "two thirds up"},
    "LoPA, deep": {"depth": "deep"},
}
RATES = {"LoRA": [5e-4, 1e-3, 2e-3], "full fine-tuning": [2e-5, 5e-5, 1e-4]}
HEAD_RATE = 5e-3
PROBES = {"linear probe": 1, "linear probe, two layers": 2}
METHODS = [*PROBES, *PROMPTS, *RATES, "SetFit"]
TEMPLATE = "{text}\nIs this review positive or negative?"
LABEL_WORDS = {
    "label words, no prompt": {"prompt_length": 0},
    "label words, prompt in the message": {},
    "label words, prompt in front": {},
    "label words, no chat": {"chat_template": None},
}


class InFront(LoPAClassifier):
    """One whose prompt stands in front of the whole chat."""

    def _words(self, task, n_columns):
        words = super()._words(task, n_columns)
        chat = words["template"]
        return words | {"template": replace(chat, before=None, joint=chat.before or "")}


def draw(options, seed):
    """Training rows of this seed, and all evaluation rows."""
    texts, labels = read_labelled(options.data_dir, options.task, "train")
    if options.held_out:
        held_out = texts[-options.held_out :], labels[-options.held_out :]
        texts, labels = texts[: -options.held_out], labels[: -options.held_out]
    else:
        held_out = read_labelled(options.data_dir, options.task, "eval")
    chosen = np.random.RandomState(seed).permutation(len(texts))[: options.rows or None]
    return [texts[i] for i in chosen], labels[chosen], *held_out


def run(options, method, seed):
    """Fit one method once; a dictionary of figures."""
    texts, labels, held_out, truth = draw(options, seed)
    if method in PROBES:
        figures, classes, predict = probe(options, PROBES[method], texts, labels, seed)
    elif method in PROMPTS:
        figures, classes, predict = prompted(options, PROMPTS[method], texts, labels, seed)
    elif method in LABEL_WORDS:
        figures, classes, predict = with_words(options, method, texts, labels, seed)
    elif method == "SetFit":
        figures, classes, predict = contrastive(options, texts, labels, seed)
    else:
        rate = options.rate or choose_rate(options, method, texts, labels, seed)
        figures, classes, predict = tuned(options, method, rate, texts, labels, seed)
    started = time.perf_counter()
    p = predict(held_out)
    figures["rows_per_second"] = len(held_out) / (time.perf_counter() - started)
    hits = classes[p.argmax(axis=1)] == truth
    return figures | {"accuracy": 100 * float(hits.mean()), "ece": calibration_error(p, hits)}


def calibration_error(p, hits, n_bins=15):
    """Expected calibration error in percent: mean gap of confidence and accuracy over bins."""
    confidence = p.max(axis=1)
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    gaps = [abs((confidence - hits)[bins == b].sum()) for b in range(n_bins)]
    return 100 * float(sum(gaps) / len(hits))


def estimator(options, seed, **parameters):
    """Our classifier with its defaults, a caller's epochs and batches, and these parameters."""
    given = dict(getattr(options, "budget", {}))
    given |= {"model": options.model} if options.model else {}
    return LoPAClassifier(**given | parameters, random_state=seed)


def probe(options, n_views, texts, labels, seed):
    """A tuned logistic regression on the frozen model's embeddings."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, KFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    started = time.perf_counter()
    encoder = estimator(options, seed, prompt_length=0, max_iter=1).fit(texts, labels)
    read = encoder.transform if n_views == 1 else lambda rows: both_views(options, rows)
    features = read(texts)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)),
        {"logisticregression__C": np.logspace(-4, 0, 9)},
        cv=KFold(5, shuffle=True, random_state=seed),
    ).fit(features, labels)
    model = search.best_estimator_[-1]
    figures = {
        "parameters": model.coef_.size + model.intercept_.size,
        "seconds": time.perf_counter() - started,
        "bytes": len(pickle.dumps(search.best_estimator_)),
    }
    return figures, search.classes_, lambda rows: search.predict_proba(read(rows))


def both_views(options, texts):
    """What the head of a fitted classifier reads beside the states, by transformers alone.

    Mean states two thirds up the layers, as long as the last ones, and the last ones; of a pair the
    difference and the product of its texts.
    """
    import torch

    from sklopa import load_model

    model, tokenizer = load_model(options.model or estimator(options, 0).model)
    if isinstance(texts[0], tuple):
        u, v = (both_views(options, list(column)) for column in zip(*texts, strict=True))
        parts = zip(np.split(u, 2, axis=1), np.split(v, 2, axis=1), strict=True)
        return np.hstack([part for a, b in parts for part in (abs(a - b), a * b)])
    views = []
    for start in range(0, len(texts), 64):
        batch = tokenizer(
            list(texts[start : start + 64]), truncation=True, padding=True, return_tensors="pt"
        )
        with torch.inference_mode():
            states = model(**batch, output_hidden_states=True).hidden_states
        mask = batch["attention_mask"].unsqueeze(-1)
        earlier, last = (
            (states[i] * mask).sum(dim=1) / mask.sum(dim=1)
            for i in ((len(states) - 1) * 2 // 3, len(states) - 1)
        )
        scale = last.norm(dim=1, keepdim=True) / earlier.norm(dim=1, keepdim=True)
        views.append(torch.cat([earlier * scale, last], dim=1).numpy())
    return np.concatenate(views)


def with_words(options, method, texts, labels, seed):
    """Our classifier with labels as words of a causal language model."""
    kind = InFront if method == "label words, prompt in front" else LoPAClassifier
    parameters = {"head": "verbalizer", "template": TEMPLATE, **LABEL_WORDS[method]}
    model = options.model or LoPAGenerator().model
    made = kind(model, **parameters | chosen(options), random_state=seed)
    return fitted(made, texts, labels)


def chosen(options):
    """Parameters of our classifier that the command line sets."""
    pairs = (pair.split("=", 1) for pair in options.set)
    return {name: ast.literal_eval(text) for name, text in pairs}


def prompted(options, parameters, texts, labels, seed):
    """Our classifier."""
    from sklopa import load_model

    parameters = parameters | chosen(options)
    if "prompt_layer" in parameters and isinstance(parameters["prompt_layer"], str):
        model, _ = load_model(options.model or estimator(options, 0).model)
        parameters["prompt_layer"] = 2 * model.config.num_hidden_layers // 3
    return fitted(estimator(options, seed, **parameters), texts, labels)


def fitted(model, texts, labels):
    """Fit one of our classifiers; figures, classes and its probabilities."""
    started = time.perf_counter()
    model.fit(texts, labels)
    figures = {
        "parameters": model.n_trainable_parameters_,
        "seconds": time.perf_counter() - started,
        "bytes": len(pickle.dumps(model)),
    }
    return figures, model.classes_, model.predict_proba


def choose_rate(options, method, texts, labels, seed):
    """The learning rate that is best on a fifth of the training rows."""
    cut = len(texts) * 4 // 5
    scores = []
    for rate in RATES[method]:
        _, classes, predict = tuned(options, method, rate, texts[:cut], labels[:cut], seed)
        p = predict(texts[cut:])
        scores.append(np.mean(classes[p.argmax(axis=1)] == labels[cut:]))
    return RATES[method][int(np.argmax(scores))]


def tuned(options, method, rate, texts, labels, seed):
    """LoRA or full fine-tuning, with a linear layer on mean states."""
    import torch
    from transformers import get_linear_schedule_with_warmup

    like = estimator(options, seed)
    torch.manual_seed(seed)
    body, tokenizer = read_model(options, method)
    classes, target = np.unique(labels, return_inverse=True)
    head = torch.nn.Linear(body.config.hidden_size, len(classes))
    trained = [p for p in body.parameters() if p.requires_grad]
    groups = [{"params": trained, "lr": rate}, {"params": head.parameters(), "lr": HEAD_RATE}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    n_steps = like.max_iter * -(-len(texts) // like.batch_size)
    schedule = get_linear_schedule_with_warmup(optimizer, n_steps // 10, n_steps)
    rows, started = tokenize(tokenizer, texts), time.perf_counter()
    body.train()
    for _ in range(like.max_iter):
        for batch in batches(rows, like.batch_size, np.random.RandomState(seed)):
            logits = head(mean_states(body, tokenizer, [rows[i] for i in batch]))
            torch.nn.functional.cross_entropy(logits, torch.as_tensor(target[batch])).backward()
            torch.nn.utils.clip_grad_norm_([*trained, *head.parameters()], 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    seconds = time.perf_counter() - started
    n_trained = sum(p.numel() for p in [*trained, *head.parameters()])
    figures = {
        "parameters": n_trained,
        "seconds": seconds,
        "bytes": 4 * n_trained,
        "rate": rate,
    }
    return figures, classes, lambda rows: probabilities(body.eval(), head, tokenizer, rows)


def contrastive(options, texts, labels, seed):
    """SetFit: the whole model trained on pairs of rows, then a logistic regression."""
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    folder, tokenizer = model_folder(options)
    classes, target = np.unique(labels, return_inverse=True)
    rows = Dataset.from_dict({"text": joined(tokenizer, texts), "label": target.tolist()})
    arguments = TrainingArguments(batch_size=16, num_iterations=2, seed=seed, report_to="none")
    started = time.perf_counter()
    model = SetFitModel.from_pretrained(folder, device="cpu")
    Trainer(model=model, args=arguments, train_dataset=rows).train()
    seconds = time.perf_counter() - started
    n_trained = sum(p.numel() for p in model.model_body.parameters())
    head = model.model_head.coef_.size + model.model_head.intercept_.size
    figures = {
        "parameters": n_trained + head, "seconds": seconds, "bytes": 4 * (n_trained + head)
    }  # fmt: skip
    order = np.argsort(model.model_head.classes_)
    return (
        figures,
        classes,
        lambda held_out: np.asarray(
            model.predict_proba(joined(tokenizer, held_out), as_numpy=True)
        )[:, order],
    )


def joined(tokenizer, texts):
    """Texts, a pair as one."""
    between = f" {tokenizer.sep_token} "
    return [between.join(text) if isinstance(text, tuple) else text for text in texts]


def model_folder(options):
    """Where the model lies on disk, and its tokenizer."""
    from sklopa import load_model

    loaded, tokenizer = load_model(options.model or estimator(options, 0).model)
    return loaded.config.name_or_path, tokenizer


def read_model(options, method):
    """The model without a head, with LoRA (r = 8) in it or all of it to be trained."""
    from transformers import AutoModel, AutoTokenizer

    folder, _ = model_folder(options)
    body, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    if method == "LoRA":
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.05, target_modules=options.lora)
        body = get_peft_model(body, config)
    return body.float(), tokenizer


def tokenize(tokenizer, texts):
    """Token ids of each text or pair."""
    pairs = [text if isinstance(text, tuple) else (text,) for text in texts]
    return [tokenizer(*pair, truncation=True) for pair in pairs]


def batches(rows, size, random):
    """Batches of similar length in random order, each row once."""
    order = random.permutation(len(rows))
    order = order[np.argsort([len(rows[i]["input_ids"]) for i in order], kind="stable")]
    cut = [order[i : i + size] for i in range(0, len(order), size)]
    return [cut[i] for i in random.permutation(len(cut))]


def mean_states(body, tokenizer, rows):
    """Mean of the last states over the tokens of each row, (B, D)."""
    batch = tokenizer.pad(rows, return_tensors="pt")
    states = body(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    return (states * mask).sum(dim=1) / mask.sum(dim=1)


def probabilities(body, head, tokenizer, texts):
    """Class probabilities (n, C)."""
    import torch

    rows = tokenize(tokenizer, texts)
    out = np.empty((len(rows), head.out_features))
    with torch.inference_mode():
        for batch in batches(rows, 64, np.random.RandomState(0)):
            logits = head(mean_states(body, tokenizer, [rows[i] for i in batch]))
            out[batch] = logits.softmax(dim=1).numpy()
    return out


def all_seeds(runs, method, task):
    """The runs of one method on one task; the first one chooses the learning rate."""
    change, done = {"task": task, "tasks": None, "methods": None, "seeds": None}, []
    for seed in range(runs.options.seeds):
        done.append(runs(method, seed, **change))
        change["rate"] = runs.options.rate or done[0].get("rate")
    return done


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--tasks", nargs="+", default=["sst2", "mrpc", "banking77"])
    parser.add_argument("--task", help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, default=1000, help="training rows; 0 takes all")
    parser.add_argument("--seeds", type=int, default=3)
    known = [*METHODS, *LABEL_WORDS]
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=known)
    parser.add_argument("--model", help="hub id or folder; default: the classifier's own")
    parser.add_argument(
        "--held-out",
        type=int,
        help="read the last rows of the training file in place of dev",
    )
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="of ours")
    parser.add_argument("--rate", type=float, help="learning rate of LoRA and full fine-tuning")
    parser.add_argument("--lora", nargs="+", default=["query", "value"], help="layers for LoRA")
    runs = Runs(run, parser)
    options = runs.options
    print(f"{options.rows} rows, {options.seeds} seeds; {machine()}\n")
    print_header(
        "method", *(f"{task} (spread)" for task in options.tasks), "mean", "calibration error",
        "parameters", "s", "kB", "rows/s",
    )  # fmt: skip
    for method in options.methods:
        by_task = [all_seeds(runs, method, task) for task in options.tasks]
        scores = [[run["accuracy"] for run in done] for done in by_task]
        mean = mean_of([run for done in by_task for run in done])
        print_row(
            method,
            *(f"{np.mean(score):.1f} ({np.std(score):.1f})" for score in scores),
            f"{mean['accuracy']:.2f}",
            f"{mean['ece']:.1f}",
            f"{mean['parameters']:,.0f}",
            f"{mean['seconds']:.0f}",
            f"{mean['bytes'] / 1000:,.0f}",
            f"{mean['rows_per_second']:.0f}",
        )


if __name__ == "__main__":
    main()
