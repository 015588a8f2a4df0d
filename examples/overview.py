"""Make the picture at the top of the README: one fit, and a search over rank and prompt length.

Four messages of each intent to learn from. It takes about a minute on one core.

    pip install -e ".[demo,inspection]" && python examples/overview.py
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from sklearn.model_selection import GridSearchCV, StratifiedShuffleSplit, train_test_split

from sklopa import LoPAClassifier
from sklopa.datasets import load_intents
from sklopa.inspection import HistoryDisplay, SearchDisplay

X, y = load_intents(return_X_y=True)
few = 32  # messages: 4 of each of the 8 intents
X_few, X_rest, y_few, y_rest = train_test_split(X, y, train_size=few, stratify=y, random_state=0)

clf = LoPAClassifier(batch_size=4, max_iter=8, early_stopping=True, random_state=0)
clf.fit(X_few, y_few, X_val=X_rest[:120], y_val=y_rest[:120])

search = GridSearchCV(
    LoPAClassifier(batch_size=4, max_iter=3, random_state=0),
    {"rank": [0, 2, 4], "prompt_length": [4, 8, 12]},
    cv=StratifiedShuffleSplit(2, train_size=few, test_size=80, random_state=0),
    refit=False,
)
search.fit(X, y)

figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.4), layout="constrained")
HistoryDisplay.from_estimator(clf, ax=left)
SearchDisplay.from_search(search, ax=right)
path = Path(__file__).with_name("overview.png")
figure.savefig(path, dpi=150)
print(f"written: {path}")
