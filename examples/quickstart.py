# %% [markdown]
# # Sort customer messages with a frozen language model
#
# Some 400 short messages in 8 intents come with the package. We adapt a small frozen model to
# them, search rank and prompt length, and store the result. It takes under three minutes on two
# cores and needs no data.

# %%
import tempfile
import time
from pathlib import Path

import joblib
from sklearn.metrics import classification_report
from sklearn.model_selection import GridSearchCV, train_test_split

from sklopa import LoPAClassifier, cache_info
from sklopa.datasets import load_intents

started = time.perf_counter()
texts, labels = load_intents(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    texts, labels, test_size=0.3, stratify=labels, random_state=0
)
print(f"{len(X_train)} messages to learn from, {len(X_test)} to test on, for example:")
print(f"    {X_train[0]!r} -> {y_train[0]}\n")

# %% [markdown]
# ## Fit
# The model's weights stay as they are; a prompt and a linear layer are trained.

# %%
clf = LoPAClassifier(random_state=0, verbose=1)
clf.fit(X_train, y_train)
print(classification_report(y_test, clf.predict(X_test)))

# %% [markdown]
# ## Search
# All candidates and folds share one copy of the model, and each text is embedded once.

# %%
search = GridSearchCV(
    LoPAClassifier(max_iter=4, random_state=0),
    {"rank": [0, 2], "prompt_length": [5, 10]},
    cv=2,
    verbose=3,
)
search.fit(X_train, y_train)
print(f"\nbest: {search.best_params_}, accuracy {search.best_score_:.3f} in cross-validation")
print(f"texts embedded in all: {cache_info().misses}")

# %% [markdown]
# ## Store and load
# A pickle holds what was trained, not the language model.

# %%
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "clf.joblib"
    joblib.dump(clf, path)
    loaded = joblib.load(path)
    print(f"stored in {path.stat().st_size / 1000:,.0f} kB")

message = "hi, I sent the shoes back two weeks ago and still have no money on my account"
print(f"{message!r} -> {loaded.predict([message])[0]}")
print(f"done in {time.perf_counter() - started:.0f} s")
