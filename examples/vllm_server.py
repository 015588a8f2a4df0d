# %% [markdown]
# # Serve many tasks with one bare model
#
# A vLLM server holds SmolLM2 as it was published and knows of no task. Two tasks are fitted here,
# and each request brings its own soft prompt, beside the plain text of the message. Any client of
# the OpenAI protocol can send such messages.
#
# It needs vLLM 0.30 or later, which may be in an environment of its own: name its Python in
# `SKLOPA_VLLM_PYTHON`. With the address of a server that runs on this machine already in
# `SKLOPA_VLLM_URL`, that one is asked. Start such a server only where trusted users alone reach it,
# since it unpacks tensors that they send.

# %%
import atexit
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from copy import deepcopy
from pathlib import Path

from sklopa import Backbone, LoPAClassifier, LoPAGenerator, load_model
from sklopa.serving import PromptClient

python, url = os.environ.get("SKLOPA_VLLM_PYTHON"), os.environ.get("SKLOPA_VLLM_URL")
if python is None and importlib.util.find_spec("vllm"):
    python = sys.executable
if not (python or url) or importlib.util.find_spec("openai") is None:
    print(
        "This example needs the packages openai and vllm: install both, or name the Python of an "
        "environment with vLLM in SKLOPA_VLLM_PYTHON."
    )
    sys.exit()

import openai
import transformers

# %% [markdown]
# ## A folder that both sides read
# The server reads weights as safetensors files, from whatever form they are installed in here.
# Precision is float32 on both sides, so that their answers can be compared.

# %%
place = tempfile.TemporaryDirectory()


def write_model(folder):
    """The model of `LoPAGenerator` as a server reads it."""
    frozen, tokenizer = load_model(Backbone(LoPAGenerator().model, dtype="float32"))
    config = deepcopy(frozen.config)
    config.__dict__.pop("quantization_config", None)
    whole = transformers.AutoModelForCausalLM.from_config(config)
    whole.load_state_dict(frozen.state_dict())
    whole.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def served(url):
    """The model that a server has: its name under "id", and its folder under "root"."""
    with urllib.request.urlopen(f"{url}/v1/models", timeout=30) as answer:
        return json.loads(answer.read())["data"][0]


folder = served(url)["root"] if url else write_model(str(Path(place.name) / "smollm2"))

# %% [markdown]
# ## Two tasks
# One writes a sentence from facts, the other gives the mood of a review. With a small `encoder`
# nothing of the foundation model is needed to make their prompts.

# %%
small = {"encoder": "sentence-transformers/all-MiniLM-L6-v2", "rank": 2, "random_state": 0}
places = ["The Eagle", "Aromi", "Cotto", "The Mill", "Zizzi", "The Punter"]
foods = ["French", "Indian", "Italian"]
facts = [f"name[{p}], food[{f}]" for p in places for f in foods]
sentences = [f"{p} serves {f} food." for p in places for f in foods]
writer = LoPAGenerator(folder, max_iter=4, batch_size=6, max_new_tokens=16, **small)
writer.fit(facts[::3], sentences[::3])

reviews = ["a good film", "so dull", "great fun", "a bad film", "I loved it", "never again"]
critic = LoPAClassifier(
    folder, head="verbalizer", template="{text} Was it good or bad?", max_iter=4, **small
)
critic.fit(reviews, ["good", "bad"] * 3)

local = writer.predict(facts[1:4]).tolist(), critic.predict(reviews).tolist()
Backbone.release_all()  # from here on the foundation model is on the server alone

# %% [markdown]
# ## The server
# It gets the bare model and one option.


# %%
def start_server(folder):
    """Start vLLM, to be ended with this process, and give its address when it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        python, "-m", "vllm.entrypoints.openai.api_server", "--model", folder, "--port", str(port),
        "--host", "127.0.0.1", "--served-model-name", "smollm2", "--dtype", "float32",
        "--max-model-len", "512", "--enforce-eager", "--enable-prompt-embeds",
    ]  # fmt: skip
    url, log = f"http://127.0.0.1:{port}", Path(place.name) / "log"
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    environment.pop("PYTHONPATH", None)
    with log.open("wb") as out:
        server = subprocess.Popen(
            command, env=environment, stdout=out, stderr=out, start_new_session=True
        )
    atexit.register(end, server)
    while not is_up(url):
        if server.poll() is not None:
            sys.exit(f"vLLM did not start:\n{log.read_text()[-2000:]}")
        time.sleep(1)
    return url


def is_up(url):
    try:
        urllib.request.urlopen(f"{url}/health", timeout=2).close()
    except OSError:
        return False
    return True


def end(server):
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


url = url or start_server(folder)
name = served(url)["id"]
print(f"vLLM answers at {url}")

# %% [markdown]
# ## Both tasks and the bare model, from one server

# %%
clients = [PromptClient(model, url, api="chat") for model in (writer, critic)]
for client in clients:
    print(client.verify().message)
texts, moods = clients[0].predict(facts[1:4]), clients[1].predict(reviews)
for fact, text in zip(facts[1:4], texts, strict=True):
    print(f"    {fact!r} -> {text!r}")
for review, mood in zip(reviews, moods, strict=True):
    print(f"    {review!r} -> {mood}")
same = (texts.tolist(), moods.tolist()) == local
print(f"the same as the estimators said with the model in this process: {same}")

bare = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
question = [{"role": "user", "content": facts[1]}]
asked = {"model": name, "max_tokens": 16, "temperature": 0.0}
answer = bare.chat.completions.create(messages=question, **asked)
print(f"the bare model says {answer.choices[0].message.content!r}")

# %% [markdown]
# ## What was sent
# A prompt, the same size whatever the text, and the text as it is.

# %%
(messages,) = clients[0].messages(facts[1:2])
prompt, text = messages[0]["content"]
print(json.dumps([{**prompt, "data": prompt["data"][:24] + "..."}, text], indent=4))
print(f"{len(json.dumps(messages)):,} bytes, {len(facts[1])} of them the text")

# %% [markdown]
# ## Streaming with the plain `openai` package

# %%
for part in bare.chat.completions.create(messages=messages, stream=True, **asked):
    for choice in part.choices:
        print(choice.delta.content or "", end="", flush=True)
print()
