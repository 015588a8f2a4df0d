"""A frozen language model, prompt tuning, LoPA and LoRA on one generation task.

    python benchmarks/generate.py --data-dir DIR --task e2e

Tasks: "e2e" reads DIR/e2e.train.jsonl and DIR/e2e.test.jsonl with "source", "target" and (test)
"references". "cruxeval-o" and "cruxeval-i" read DIR/cruxeval.jsonl with "code", "input" and
"output", of which the first 400 rows train and the other 400 test: what does a program print,
and what has to go in. All methods get the same rows, epochs, batch and texts. LoRA needs `peft`.
"""

import argparse
import copy
import pickle
import time
from pathlib import Path

from harness import Runs, machine, mean_of, print_header, print_row, read_jsonl

SHOTS = 3
METHODS = {
    "frozen": {"prompt_length": 0},
    "frozen, few-shot": {"prompt_length": 0},
    "prompt tuning": {"rank": 0},
    "LoPA": {},
    "LoRA": {"prompt_length": 0},
}


def read_task(options):
    """Training pairs and test triples (source, target, references)."""
    if options.task == "e2e":
        train = read_jsonl(Path(options.data_dir, "e2e.train.jsonl"))
        test = read_jsonl(Path(options.data_dir, "e2e.test.jsonl"))
        train = [(row["source"], row["target"]) for row in train]
        test = [(row["source"], row["target"], row["references"]) for row in test]
    else:
        rows = read_jsonl(Path(options.data_dir, "cruxeval.jsonl"))
        rows = [crux_row(row, options.task) for row in rows]
        train, test = rows[:400], [(source, target, [target]) for source, target in rows[400:]]
    train = train[: options.rows] if options.rows else train
    return train, test[: options.test_rows] if options.test_rows else test


def crux_row(row, task):
    """Source and target of one program."""
    if task == "cruxeval-o":
        return f"{row['code']}\n\nassert f({row['input']}) == ", row["output"]
    return f"{row['code']}\n\n# f(?) == {row['output']}\n? = ", row["input"]


def behind_examples(source, train):
    """The source behind the first training pairs."""
    shown = "".join(f"Input: {s}\nOutput: {t}\n\n" for s, t in train[:SHOTS])
    return f"{shown}Input: {source}\nOutput:"


def run(options, method, seed):
    """Fit one method once; a dictionary of figures."""
    from sklopa import LoPAGenerator

    train, test = read_task(options)
    sources, targets = (list(column) for column in zip(*train, strict=True))
    given = {k: v for k in ("model", "max_iter", "batch_size") if (v := getattr(options, k))}
    generator = LoPAGenerator(**given, **METHODS[method], random_state=seed)
    figures = {}
    if method == "LoRA":
        backbone, figures = fit_lora(generator, sources, targets, options.lora_rate, seed)
        generator.set_params(model=backbone)
    generator.fit(sources, targets)
    if not figures:
        figures = {
            "seconds": sum(record["seconds"] for record in generator.history_),
            "parameters": generator.n_trainable_parameters_,
            "bytes": len(pickle.dumps(generator)),
        }
    few_shot = method == "frozen, few-shot"
    asked = [behind_examples(s, train) if few_shot else s for s, _, _ in test]
    likely = generator.log_likelihood(asked, [target for _, target, _ in test])
    shown = options.generate_rows or len(test)
    texts = generator.set_params(batch_size=32).predict(asked[:shown])
    references = [references for _, _, references in test[:shown]]
    return (
        figures | {"log_likelihood": float(likely.mean())} | scores(options.task, texts, references)
    )


def scores(task, texts, references):
    """Scores of generated texts, in percent."""
    from sklopa.metrics import bleu_score, chrf_score, exact_match_score

    if task == "e2e":
        return {"chrF": chrf_score(references, texts), "BLEU": bleu_score(references, texts)}
    return {"exact match": 100 * exact_match_score([r[0] for r in references], texts)}


def fit_lora(like, sources, targets, rate, seed):
    """LoRA on a language model: the backbone with what was learned, and the figures of the run."""
    return fine_tune(like, sources, targets, loss_of_targets, rate, seed, lora=True)


def fine_tune(like, sources, targets, loss, rate, seed, *, lora):
    """LoRA (r = 8) on query and value, through `peft`, or all weights.

    With the epochs and batch of the estimator `like`. Gives the backbone with the learned weights
    merged in, and the figures of the run.
    """
    import torch
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import get_linear_schedule_with_warmup

    from sklopa import Backbone, load_model

    torch.manual_seed(seed)
    shared, tokenizer = load_model(like.model)
    model = copy.deepcopy(shared).requires_grad_(True)
    if lora:
        config = LoraConfig(
            task_type=TaskType.CAUSAL_LM, r=8, lora_alpha=16, lora_dropout=0.05,
            target_modules=["q_proj", "v_proj"],
        )  # fmt: skip
        model = get_peft_model(model, config)
    rows = [tokenize(tokenizer, s, t) for s, t in zip(sources, targets, strict=True)]
    trained = [p for p in model.train().parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate)
    n_steps = like.max_iter * -(-len(rows) // like.batch_size)
    schedule = get_linear_schedule_with_warmup(optimizer, n_steps // 10, n_steps)
    started = time.perf_counter()
    for _ in range(like.max_iter):
        order = torch.randperm(len(rows)).tolist()
        for start in range(0, len(rows), like.batch_size):
            batch = collate([rows[i] for i in order[start : start + like.batch_size]])
            loss(model, batch).backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    seconds = time.perf_counter() - started
    n_trained = sum(p.numel() for p in trained)
    model = (model.merge_and_unload() if lora else model).eval()
    figures = {"seconds": seconds, "parameters": n_trained, "bytes": 4 * n_trained}
    return Backbone.from_objects(model, tokenizer), figures


def loss_of_targets(model, batch):
    """Nats a target token."""
    return model(**batch, use_cache=False).loss


def tokenize(tokenizer, source, target):
    """Token ids of a chat with one question, and those of its answer with the end token."""
    text = source
    if tokenizer.chat_template:
        message = [{"role": "user", "content": source}]
        text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    asked = tokenizer(text, add_special_tokens=not tokenizer.chat_template)["input_ids"]
    answer = tokenizer(target, add_special_tokens=False)["input_ids"]
    return asked, [*answer, tokenizer.eos_token_id]


def collate(rows):
    """A batch padded on the right to its longest row; only answers count in the loss."""
    import torch

    length = max(len(asked) + len(answer) for asked, answer in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    mask, labels = ids.clone(), ids.clone() - 100
    for i, (asked, answer) in enumerate(rows):
        end = len(asked) + len(answer)
        ids[i, :end] = torch.tensor(asked + answer)
        mask[i, :end] = 1
        labels[i, len(asked) : end] = torch.tensor(answer)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--task", default="e2e", choices=["e2e", "cruxeval-o", "cruxeval-i"])
    parser.add_argument("--model", help="hub id or folder; default: the generator's own")
    parser.add_argument("--rows", type=int, default=300, help="training rows; 0 takes all")
    parser.add_argument("--test-rows", type=int, default=0, help="0 takes all")
    parser.add_argument("--generate-rows", type=int, default=100, help="0 takes all")
    parser.add_argument("--max-iter", type=int, help="epochs; default: the generator's own")
    parser.add_argument("--batch-size", type=int, help="default: the generator's own")
    parser.add_argument("--lora-rate", type=float, default=1e-3)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    runs = Runs(run, parser)
    options = runs.options
    print(f"{options.task}, {options.rows} training rows, {options.seeds} seeds; {machine()}\n")
    names = ["chrF", "BLEU"] if options.task == "e2e" else ["exact match"]
    print_header("method", "log-likelihood", *names, "s to train", "parameters", "kB")
    alike = {"seeds": None, "methods": None}  # runs are the same, however many there are
    for method in options.methods:
        mean = mean_of([runs(method, seed, **alike) for seed in range(options.seeds)])
        print_row(
            method,
            f"{mean['log_likelihood']:.3f}",
            *(f"{mean[name]:.1f}" for name in names),
            f"{mean['seconds']:.0f}",
            f"{mean['parameters']:,.0f}",
            f"{mean['bytes'] / 1000:,.0f}",
        )


if __name__ == "__main__":
    main()
