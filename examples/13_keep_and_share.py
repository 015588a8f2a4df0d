# %% [markdown]
# # Keep, share, and see what changed
#
# A fitted estimator is small: it holds what was trained, and the name of the frozen model. Three
# kinds of file keep it. `save` writes JSON and safetensors, and reading them runs nothing; skops
# does the same for whole pipelines; joblib and pickle run whatever the file says, so open only
# your own.
#
#     pip install -e ".[demo,inspection]" skops

# %%
import pickle
import tempfile
from pathlib import Path

import joblib
import matplotlib.pyplot as plt
import skops.io
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import sklopa
from sklopa import LoPAClassifier
from sklopa.datasets import load_intents

X, y = load_intents(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, train_size=64, stratify=y, random_state=0)
clf = LoPAClassifier(prompt_layer=4, bottleneck=32, batch_size=16, random_state=0)
clf.fit(X_train, y_train)
print(f"accuracy {clf.score(X_test, y_test):.3f}; {clf.n_trainable_parameters_:,} values trained")
folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## Three kinds of file

# %%
clf.save(folder / "clf.zip")
loaded = {"save": sklopa.load(folder / "clf.zip")}

joblib.dump(clf, folder / "clf.joblib")
loaded["joblib"] = joblib.load(folder / "clf.joblib")

pipe = make_pipeline(FunctionTransformer(), clf)
skops.io.dump(pipe, folder / "pipe.skops")
trusted = ["sklopa.LoPAClassifier", "sklopa.Backbone"]
loaded["skops"] = skops.io.load(folder / "pipe.skops", trusted=trusted)

files = ("clf.zip", "clf.joblib", "pipe.skops")
for path, (name, other) in zip(files, loaded.items(), strict=True):
    same = (other.predict(X_test) == clf.predict(X_test)).all()
    print(f"{name:<7} {(folder / path).stat().st_size / 1000:>5.0f} kB, same answers: {same}")

# %% [markdown]
# ## What changed
# The archive says which model it belongs to, by hash. A file that was altered on its way, and a
# model that is not that of the fit, are named.

# %%
clf.save(folder / "altered")
weights = next((folder / "altered").glob("*.safetensors"))
weights.write_bytes(weights.read_bytes()[:-1] + b"!")
try:
    sklopa.load(folder / "altered")
except sklopa.errors.InvalidArchive as error:
    print(f"refused: {str(error).replace(str(folder), '...')}")

# %% [markdown]
# ## Share
# A hub repository is a saved folder with a card beside it. For machines without a network,
# `include_backbone=True` puts the frozen model beside what was trained.
#
# ```python
# clf.push_to_hub("me/intents", scores={"accuracy": 0.93})
# clf = sklopa.load("me/intents", revision="v1")
# clf.save("clf", include_backbone=True)
# ```

# %% [markdown]
# ## How large is it?
# `bottleneck` is the width of the networks that make the prompt, and decides the size. Without
# them (`rank=0`) a prompt for all texts is left.

# %%
sizes = {}
for name, options in {
    "no prompt": {"prompt_length": 0},
    "rank=0": {"rank": 0},
    "bottleneck=16 (default)": {},
    "bottleneck=64": {"bottleneck": 64},
    "bottleneck=256": {"bottleneck": 256},
}.items():
    other = LoPAClassifier(prompt_layer=4, max_iter=1, random_state=0, **options)
    sizes[name] = len(pickle.dumps(other.fit(X_train, y_train))) / 1000
model, _ = sklopa.load_model(clf.model)
sizes["the frozen model, once for all"] = sum(4 * p.numel() for p in model.parameters()) / 1000

figure, axis = plt.subplots(figsize=(7.5, 2.6), layout="constrained")
bars = axis.barh(list(sizes), list(sizes.values()), color=["#0072B2"] * 5 + ["#999999"])
axis.bar_label(bars, fmt="{:,.0f}", padding=3)
axis.invert_yaxis()
axis.set(xscale="log", xlabel="kB to store", xlim=(1, 10 * max(sizes.values())))
figure.savefig("13_keep_and_share.png", dpi=100)
