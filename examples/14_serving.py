# %% [markdown]
# # Serve many tasks
#
# Prompts are input, so one frozen model serves any number of tasks: in one process with batches
# that tasks share, or on a vLLM server that knows of no task at all.
#
#     pip install -e ".[demo,inspection,serving]"

# %%
import time

import matplotlib.pyplot as plt
import numpy as np

from sklopa import LoPAClassifier
from sklopa.datasets import load_intents
from sklopa.serving import MultiTaskPredictor

texts, intents = load_intents(return_X_y=True)
families = {
    "intent": intents,
    "money": np.isin(intents, ["payment_problem", "refund_status"]).astype(str),
    "question": np.array([str("?" in text) for text in texts]),
    "length": np.where(np.char.str_len(texts.astype(str)) > 60, "long", "short"),
}
options = {"prompt_layer": 0, "bottleneck": 16, "prompt_length": 5, "max_iter": 1}
tasks = {
    name: LoPAClassifier(random_state=0, **options).fit(texts[:64], labels[:64])
    for name, labels in families.items()
}

# %% [markdown]
# ## In one process
# Requests of all tasks come mixed. Answers are those of each task alone.

# %%
predictor = MultiTaskPredictor(tasks)
asked = np.resize(list(tasks), 64)
mixed = predictor.predict(asked, texts[100:164])
for name, text, answer in zip(asked[:4], texts[100:104], mixed[:4], strict=True):
    print(f"{name:<9} {text!r} -> {answer}")


def one_by_one(names, rows):
    """Each task's rows by themselves."""
    answers = np.empty(len(rows), dtype=object)
    for name in tasks:
        answers[names == name] = tasks[name].predict(rows[names == name])
    return answers


print(f"same answers: {(mixed == one_by_one(asked, texts[100:164])).all()}")
rates = {"one after the other": [], "shared batches": []}
sizes = [8, 32, 128]
for n in sizes:
    names, rows = np.resize(list(tasks), n), np.resize(texts, n)
    for run, found in zip((one_by_one, predictor.predict), rates.values(), strict=True):
        run(names, rows)  # texts that were embedded stay so
        started = time.perf_counter()
        run(names, rows)
        found.append(n / (time.perf_counter() - started))

# %%
figure, axis = plt.subplots(figsize=(6, 2.8), layout="constrained")
for (name, values), style in zip(rates.items(), ("o--", "s-"), strict=True):
    axis.plot(sizes, values, style, label=name)
axis.set(xscale="log", xlabel="rows a call, of four tasks", ylabel="rows a second", ylim=(0, None))
axis.set_xticks(sizes, labels=sizes)
axis.minorticks_off()
axis.legend()
figure.savefig("14_serving.png", dpi=110)

# %% [markdown]
# ## On a vLLM server
# The frozen model runs on the server; the prompt is made on your side and sent with the text. Let
# trusted users alone reach it: the server unpacks tensors that they send.
#
# ```bash
# python -m vllm.entrypoints.openai.api_server --model DIR --enable-prompt-embeds
# ```
#
# ```python
# from sklopa import LoPAGenerator
# from sklopa.serving import PromptClient
#
# model = LoPAGenerator(DIR, encoder="sentence-transformers/all-MiniLM-L6-v2").fit(sources, targets)
# client = PromptClient(model, "http://localhost:8000")
# client.verify()  # does the server read embeddings as its own tokens?
# client.predict(sources)
# ```
#
# `vllm_server.py` beside this file does all of it, server included.
#
# A small `encoder`, or `rank=0`, keeps the large model off the client. `stream` is asynchronous,
# and `to_prompt_embeds` gives the requests without a server.
