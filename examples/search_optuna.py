# %% [markdown]
# # Search with Optuna
#
# `OptunaSearchCV` draws candidates where a grid would list them. All share one frozen model, and
# each text is embedded once.
#
#     pip install -e ".[demo,optuna]"

# %%
import warnings

from optuna.distributions import FloatDistribution, IntDistribution
from optuna_integration import OptunaSearchCV
from sklearn.model_selection import train_test_split

import sklopa
from sklopa import LoPAClassifier
from sklopa.datasets import load_intents

texts, labels = load_intents(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    texts, labels, test_size=0.3, stratify=labels, random_state=0
)

# %%
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Optuna calls its class experimental
    search = OptunaSearchCV(
        LoPAClassifier(max_iter=2, random_state=0),
        {
            "rank": IntDistribution(0, 4),
            "prompt_length": IntDistribution(4, 12),
            "learning_rate": FloatDistribution(3e-4, 3e-3, log=True),
        },
        n_trials=4,
        cv=2,
        random_state=0,
    )
    search.fit(list(X_train), list(y_train))

print(search.best_params_)
print(f"cross-validated {search.best_score_:.3f}, on new texts {search.score(X_test, y_test):.3f}")
print(f"embedded: {sklopa.cache_info().misses} texts, of {len(texts)}")
