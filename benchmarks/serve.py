"""One frozen model for many tasks: through a vLLM server, and in one process.

    python benchmarks/serve.py tasks
    python benchmarks/serve.py save-default --model DIR
    python benchmarks/serve.py server --model DIR --vllm-python PYTHON --eager --lora 4
    python benchmarks/serve.py clients --model DIR --vllm-python PYTHON --eager

"tasks" compares `MultiTaskPredictor` with one estimator after the other and shows the bytes that
a task stores. "server" starts vLLM from an environment of its own and compares LoPA prompts with
plain text of the same number of tokens, and with LoRA adapters on the server. "clients" has many
tasks in one process, which ask one server at once. DIR holds a causal language model as
`save_pretrained` leaves it; "save-default" writes the default one there.
"""

import argparse
import asyncio
import copy
import ctypes
import gc
import json
import os
import pickle
import signal
import socket
import subprocess
import tempfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
from harness import machine, print_header, print_row, save_plain

from sklopa import Backbone, LoPAClassifier, LoPAGenerator
from sklopa.serving import MultiTaskPredictor, PromptClient

WORDS = ["harbour", "violin", "lantern", "meadow", "copper", "winter", "engine", "orchard"]
FILL = " the"  # one token in most vocabularies


def make_texts(n, longest=30):
    """Texts of different length."""
    random = np.random.RandomState(0)
    return [" ".join(random.choice(WORDS, random.randint(5, longest))) for _ in range(n)]


def save_default(folder):
    """SmolLM2 in float32, from whatever form it is installed in."""
    save_plain(Backbone(LoPAGenerator().model, dtype="float32"), folder)


# ---------------------------------------------------------------------- in one process


def benchmark_tasks(options):
    """Rows a second of shared batches against one estimator after the other."""
    texts = make_texts(options.rows)
    labels = [text.split()[0] > "l" for text in texts]
    made = []
    for seed in range(max(options.tasks)):
        clf = LoPAClassifier(options.model, max_iter=1, random_state=seed)
        made.append(clf.fit(texts[:16], labels[:16]))
    size = len(pickle.dumps(made[0]))
    print(f"{options.rows} rows of equal shares; {machine()}\n")
    print(f"A task stores {size / 2**20:.2f} MiB ({made[0].n_trainable_parameters_:,} values)\n")
    print_header("tasks", "rows a call", "one after the other", "shared batches", "ratio")
    made[0].predict(texts)  # tokens and instance embeddings are known from here on
    for n_tasks in options.tasks:
        for rows in options.calls:
            alone, shared = _both_ways(made[:n_tasks], texts, rows, options.repeats)
            ratio = f"{shared / alone:.2f}"
            print_row(str(n_tasks), str(rows), f"{alone:.1f}", f"{shared:.1f}", ratio)


def _both_ways(estimators, texts, rows, repeats):
    """Rows a second with calls of `rows` rows: each estimator alone, and all together."""
    named = {str(i): estimator for i, estimator in enumerate(estimators)}
    names = np.array([str(i % len(named)) for i in range(len(texts))])
    together, texts = MultiTaskPredictor(named), np.array(texts, dtype=object)
    seconds = {"alone": [], "shared": []}
    for _ in range(repeats):
        for kind, took in seconds.items():
            started = time.perf_counter()
            for i in range(0, len(texts), rows):
                some, of = texts[i : i + rows], names[i : i + rows]
                if kind == "shared":
                    together.predict(of, some)
                else:
                    for name in np.unique(of):
                        named[name].predict(some[of == name])
            took.append(time.perf_counter() - started)
    return [len(texts) / np.median(took) for took in seconds.values()]


# ---------------------------------------------------------------------- through a server


@contextmanager
def vllm(python, model, *options):
    """A vLLM server of `model`, as its address; always ended."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        python, "-m", "vllm.entrypoints.openai.api_server", "--model", model,
        "--served-model-name", "base", "--host", "127.0.0.1", "--port", str(port),
        "--max-model-len", "512", "--enable-prompt-embeds", *options,
    ]  # fmt: skip
    environment = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_NO_USAGE_STATS": "1"}
    environment.pop("PYTHONPATH", None)
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(url, process, log)
            yield url
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def _wait(url, process, log):
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(f"{url}/health", timeout=2).raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(1)
    log.seek(0)
    raise SystemExit(f"vLLM did not start:\n{log.read()[-3000:].decode()}")


async def _send(url, bodies, at_once):
    """Seconds until all bodies are answered, and the tokens that came."""
    queue, tokens = iter(bodies), []
    headers = {"Content-Type": "application/json"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=600) as client:

        async def work():
            for body in queue:
                path = "/v1/chat/completions" if b'"messages"' in body[:20] else "/v1/completions"
                answer = await client.post(path, content=body)
                if answer.is_error:
                    raise SystemExit(f"{url} refused a request: {answer.text}")
                tokens.append(answer.json()["usage"]["completion_tokens"])

        started = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(at_once)))
    return time.perf_counter() - started, sum(tokens)


def fit_task(options, texts):
    """A generator that has seen a few rows: what it says does not matter here."""
    model = LoPAGenerator(
        Backbone(options.model, dtype=options.dtype), prompt_length=10, rank=options.rank,
        encoder="sentence-transformers/all-MiniLM-L6-v2", max_iter=1, random_state=0,
        max_new_tokens=options.new_tokens,
    )  # fmt: skip
    return model.fit(texts[:8], [text.split()[0] for text in texts[:8]])


def benchmark_server(options):
    """Generated tokens a second: LoPA prompts, plain text of equal length, LoRA adapters."""
    texts = make_texts(options.rows)
    model = fit_task(options, texts)
    client = PromptClient(model, "http://localhost")
    written = client.to_prompt_embeds(texts)
    chats = [json.dumps(_body(options, {"messages": m})).encode() for m in client.messages(texts)]
    beside = np.mean([len(c) - len(t) for c, t in zip(chats, texts, strict=True)]) / 1024
    made = [json.dumps(_body(options, one.body)).encode() for one in written]
    lengths = [len(one.tensor) for one in written]
    print(f"{options.rows} rows, {options.new_tokens} new tokens, {options.at_once} at once;")
    print(f"{options.dtype}; {machine()}")
    print(f"A request has {np.mean(lengths):.0f} positions; as messages it is the text and")
    print(f"{beside:.1f} KiB; a task stores {len(pickle.dumps(model)) / 2**20:.2f} MiB\n")
    plain = [json.dumps(_body(options, {"prompt": FILL * n})).encode() for n in lengths]
    runs = {"plain text of equal length": plain, '"completions"': made, '"chat"': chats}
    with tempfile.TemporaryDirectory() as folder:
        extra = ["--enforce-eager"] if options.eager else []
        if options.lora:
            runs |= _lora_runs(options, Path(folder), lengths)
            named = [f"task{i}={folder}/task{i}" for i in range(options.lora)]
            extra += ["--enable-lora", "--max-loras", str(options.lora), "--lora-modules", *named]
        with vllm(options.vllm_python, options.model, "--dtype", options.dtype, *extra) as url:
            _table(url, runs, options)


def _table(url, runs, options):
    speeds = {name: [] for name in runs}
    for _ in range(options.repeats + 1):
        for name, bodies in runs.items():
            took, tokens = asyncio.run(_send(url, bodies, options.at_once))
            speeds[name].append(tokens / took)
    print_header("requests", "KiB a request", "tokens a second", "ratio")
    middle = {name: np.median(found[1:]) for name, found in speeds.items()}  # the first warms up
    for name, speed in middle.items():
        kib = np.mean([len(body) for body in runs[name]]) / 1024
        ratio = speed / middle["plain text of equal length"]
        print_row(name, f"{kib:.1f}", f"{speed:.1f}", f"{ratio:.3f}")


def _body(options, prompt):
    """A request for exactly as many tokens as all others ask for."""
    fixed = {"model": "base", "max_tokens": options.new_tokens, "temperature": 0.0}
    fresh = {"cache_salt": os.urandom(16).hex()}  # no request profits from an earlier one
    return prompt | fixed | fresh | {"ignore_eos": True, "stop": [], "stop_token_ids": []}


def _lora_runs(options, folder, lengths):
    """Random LoRA adapters of rank 8, and requests that go round among them."""
    import peft
    import transformers

    for i in range(options.lora):
        base = transformers.AutoModelForCausalLM.from_pretrained(options.model)
        config = peft.LoraConfig(r=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        peft.get_peft_model(base, config).save_pretrained(folder / f"task{i}")
    bodies = [_body(options, {"prompt": FILL * n}) for n in lengths]
    names = [{"model": f"task{i % options.lora}"} for i in range(len(bodies))]
    made = [json.dumps(body | name).encode() for body, name in zip(bodies, names, strict=True)]
    return {f"{options.lora} LoRA adapters": made}


# ---------------------------------------------------------------------- many tasks, many clients


def benchmark_clients(options):
    """Requests a second and latency of many tasks in one process, and the memory of a task."""
    texts = make_texts(max(options.rows, *options.at_once_each))
    model = fit_task(options, texts)
    model._network = model._network.stored()
    Backbone.release_all()  # the frozen model is on the server alone
    print(f"{options.rows} requests, up to {options.new_tokens} new tokens each, {options.dtype};")
    print(f"{machine()}\n")
    extra = ["--enforce-eager"] if options.eager else []
    with vllm(options.vllm_python, options.model, "--dtype", options.dtype, *extra) as url:
        PromptClient(model, url, api="chat").predict(texts[:2])  # the encoder is loaded once
        print_header("tasks", "MiB a task", "clients", "requests a second", "50 %, ms", "99 %, ms")
        for n_tasks in options.many:
            before = _resident()
            clients = [PromptClient(_like(model, i), url, api="chat") for i in range(n_tasks)]
            for client in clients:
                client.messages(texts[:1])
            mib = (_resident() - before) / n_tasks / 2**20
            for at_once in options.at_once_each:
                took, waits = _ask_each(clients, texts[: max(options.rows, at_once)], at_once)
                middle, late = np.percentile(waits, [50, 99]) * 1000
                cells = (f"{len(waits) / took:.2f}", f"{middle:.0f}", f"{late:.0f}")
                print_row(str(n_tasks), f"{mib:.2f}", str(at_once), *cells)
            del clients, client


def _like(model, seed):
    """Another task: a copy with weights of its own."""
    random, other, state = np.random.RandomState(seed), copy.copy(model), model.__getstate__()
    noisy = {
        name: np.asarray(value * random.uniform(0.99, 1.01, value.shape), dtype=np.float32)
        for name, value in state["_weights"].items()
    }
    other.__setstate__(state | {"_weights": noisy})
    return other


def _resident():
    """Bytes of memory that this process holds."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed before would hide what is taken now
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _ask_each(clients, texts, at_once):
    """Seconds for one request a text, `at_once` at any time and tasks in turn, and for each."""

    def ask(i):
        started = time.perf_counter()
        clients[i % len(clients)].predict(texts[i : i + 1])
        return time.perf_counter() - started

    started = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        waits = list(pool.map(ask, range(len(texts))))
    return time.perf_counter() - started, waits


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["tasks", "server", "clients", "save-default"])
    parser.add_argument("--model", help="folder or hub id", default=LoPAClassifier().model)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tasks", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--calls", type=int, nargs="+", default=[32, 256], help="rows in a call")
    parser.add_argument("--vllm-python", help="Python of an environment with vLLM")
    parser.add_argument("--dtype", default="float32", help="of the server")
    parser.add_argument("--eager", action="store_true", help="pass --enforce-eager to vLLM")
    parser.add_argument("--lora", type=int, default=0, help="adapters to compare with")
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--at-once", type=int, default=32, help="requests on their way")
    parser.add_argument("--many", type=int, nargs="+", default=[1, 16, 100], help="tasks")
    parser.add_argument(
        "--at-once-each", type=int, nargs="+", default=[1, 8, 64], help="clients that ask at once"
    )
    options = parser.parse_args()
    work = {"tasks": benchmark_tasks, "server": benchmark_server, "clients": benchmark_clients}
    save_default(options.model) if options.what == "save-default" else work[options.what](options)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
