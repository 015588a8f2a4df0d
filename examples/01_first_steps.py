# %% [markdown]
# # First steps: a case where it pays, and one where it does not
#
# Two tasks for one small frozen model. The first asks whether a customer is happy with the
# *article*, in sentences that praise one thing and blame another: who is praised decides, and an
# average over all words hardly tells. The second sorts messages by topic, which the frozen
# model's embeddings tell by themselves. Beside the learned prompt stands a logistic regression on
# those embeddings, the first thing to try.
#
#     pip install -e ".[demo,inspection]"

# %%
import tempfile
import time
from pathlib import Path

import joblib
import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import classification_report
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklopa import LoPAClassifier
from sklopa.datasets import load_intents

started = time.perf_counter()

# %% [markdown]
# ## Two tasks
# The sentences are put together here; the messages come with the package.

# %%
PRAISE = ["great", "lovely", "perfect", "excellent", "superb", "wonderful", "fine"]
BLAME = ["awful", "terrible", "poor", "dreadful", "shoddy", "useless", "disappointing"]
ARTICLES = ["boots", "lamp", "kettle", "jacket", "headphones", "sofa", "backpack", "violin"]
SERVICES = ["delivery", "courier", "packaging", "support team", "checkout", "refund process"]
SENTENCES = [
    "The {article} I got: {one}. The {service} was {other}.", "{Other} {service}, {one} {article}.",
    "I find the {article} {one}; {other} {service} though.", "{One} {article}, {other} {service}.",
    "My {article}: {one}. Your {service}: {other}.",
    "Such {other} {service}! And the {article} turned out {one}.",
]  # fmt: skip


def reviews(n, random_state=0):
    """Sentences that praise article or service and blame the other."""
    random = np.random.RandomState(random_state)
    texts, labels = [], []
    for _ in range(n):
        praise, blame = random.choice(PRAISE), random.choice(BLAME)
        happy = random.rand() < 0.5
        one, other = (praise, blame) if happy else (blame, praise)
        sentence = random.choice(SENTENCES).format(
            article=random.choice(ARTICLES), service=random.choice(SERVICES),
            one=one, other=other, One=one.capitalize(), Other=other.capitalize(),
        )  # fmt: skip
        texts.append(sentence)
        labels.append("happy with it" if happy else "unhappy with it")
    return np.array(texts, dtype=object), np.array(labels, dtype=object)


tasks = {"happy with the article?": reviews(500), "topic": load_intents(return_X_y=True)}
for name, (texts, labels) in tasks.items():
    print(f"{name:<24} {texts[0]!r} -> {labels[0]}")

# %% [markdown]
# ## Fit
# The model's weights stay as they are; a prompt and a linear layer are trained. `prompt_length=0`
# leaves the prompt out: then `transform` gives the frozen embeddings, and what is left to train is
# a linear layer that reads an earlier layer of the model, too. `prompt_layer=4` lets the prompt
# join at the fourth of six layers, which is quicker.

# %%
fitted, scores = {}, {}
for name, (texts, labels) in tasks.items():
    X_train, X_test, y_train, y_test = train_test_split(
        texts, labels, train_size=300, stratify=labels, random_state=0
    )
    no_prompt = LoPAClassifier(prompt_length=0, random_state=0).fit(X_train, y_train)
    embed = no_prompt.transform
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    logistic = GridSearchCV(linear, {"logisticregression__C": np.logspace(-4, 0, 5)})
    begun = time.perf_counter()
    logistic.fit(embed(X_train), y_train)
    seconds = [time.perf_counter() - begun]
    begun = time.perf_counter()
    clf = LoPAClassifier(prompt_layer=4, bottleneck=32, random_state=0)
    fitted[name] = clf.fit(X_train, y_train), X_test, y_test
    seconds.append(time.perf_counter() - begun)
    scores[name] = {
        "logistic regression on embeddings": logistic.score(embed(X_test), y_test),
        "sklopa without a prompt": no_prompt.score(X_test, y_test),
        "sklopa": clf.score(X_test, y_test),
    }
    print(f"\n{name} ({len(X_test)} new texts), ", end="")
    print(f"{seconds[0]:.1f} s to fit the logistic regression, {seconds[1]:.0f} s for the prompt")
    for method, score in scores[name].items():
        print(f"    {method:<34} {score:.3f}")

# %% [markdown]
# So: try the logistic regression first. Where it is good enough, nothing here is needed.

# %%
clf, X_test, y_test = fitted["happy with the article?"]
print(classification_report(y_test, clf.predict(X_test)))

# %% [markdown]
# ## Store and load
# A pickle holds what was trained, not the language model.

# %%
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "clf.joblib"
    joblib.dump(clf, path)
    loaded = joblib.load(path)
    print(f"stored in {path.stat().st_size / 1000:,.0f} kB")
sentence = "Useless courier. The lamp, I must say, is superb."
print(f"{sentence!r} -> {loaded.predict([sentence])[0]}")

# %%
figure, axes = plt.subplots(2, 1, figsize=(7, 3.2), layout="constrained", sharex=True)
for axis, (name, found) in zip(axes, scores.items(), strict=True):
    bars = axis.barh(list(found), list(found.values()), color=["#999999", "#56B4E9", "#0072B2"])
    axis.bar_label(bars, fmt="%.3f", padding=3)
    axis.invert_yaxis()
    axis.set_title(name, loc="left", fontsize="medium")
axes[-1].set(xlim=(0, 1.1), xlabel="accuracy on new texts")
figure.savefig("01_first_steps.png", dpi=110)
print(f"done in {time.perf_counter() - started:.0f} s")
