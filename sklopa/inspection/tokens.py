"""`nearest_tokens`: the words that a prompt's rows are close to."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np

from sklopa.errors import InvalidParameter, UnsupportedBackbone
from sklopa.inspection.fitted import design_of, live_network, unwrap

_CHUNK = 8192  # words compared at once


def nearest_tokens(estimator: Any, X: Any = None, k: Any = 5) -> Any:
    """The words of the vocabulary nearest to each row of a prompt, by cosine.

    A soft prompt is made of vectors where a text has words. The words near them are a hint at what
    they mean to the model; a cosine far below 1 says that no word is near.

    Parameters
    ----------
    estimator : estimator of sklopa that reads texts
        Fitted; or a pipeline or search that ends in one.
    X : array-like of n rows, default=None
        Texts, of the kind that `fit` takes, whose prompts are looked at. None looks at the task
        prompt Z_S, which all texts share.
    k : int, default=5
        How many words for each row of a prompt.

    Returns
    -------
    DataFrame, or list of dict without pandas
        One line a word, the nearest first. Columns:

        - ``text``: which row of X, from 0; only where X was given
        - ``row``: which row of the prompt, from 0
        - ``word``: as it reads in a text
        - ``token``: its number in the vocabulary
        - ``cosine``: between the word's embedding and the row, in [-1, 1]

    Raises
    ------
    NotFitted, InvalidType
        If there is no fitted estimator of sklopa.
    UnsupportedBackbone
        If the model reads images.
    InvalidParameter
        If there is no prompt, or no Z_S (``gate="instance"``) and no X; or if `k` is no count.

    Notes
    -----
    A prompt starts from words drawn at random. Those that are still the nearest after training
    tell where it came from, and their cosine how far it has moved since.

    Special tokens are left out. Of deep prompts only the first layer's is looked at, as later
    layers do not read words.

    Examples
    --------
    >>> from sklopa import LoPAClassifier
    >>> from sklopa.datasets import load_intents
    >>> from sklopa.inspection import nearest_tokens
    >>> X, y = load_intents(return_X_y=True)
    >>> clf = LoPAClassifier(max_iter=2, random_state=0)
    >>> nearest_tokens(clf.fit(X[:100], y[:100]), k=1).head(3)  # doctest: +SKIP
       row         word  token    cosine
    0    0       scaled  18953  0.911066
    1    1     machines   6681  0.909289
    2    2  controversy   6704  0.925048
    """
    caller = "nearest_tokens"
    estimator, X = unwrap(caller, estimator, X)
    if isinstance(k, bool) or not isinstance(k, Integral) or k < 1:
        raise InvalidParameter(f"{caller}: parameter k must be an integer >= 1; got {k!r}")
    frozen = live_network(estimator).frozen
    if frozen.reads != "texts":
        raise UnsupportedBackbone(
            f"{caller} needs a model of texts, which has a vocabulary; {frozen.name!r} reads "
            f"{frozen.reads}."
        )
    rows = _task_rows(estimator) if X is None else _rows_of(estimator, X)  # (..., P, D)
    tokens, cosines = _nearest(frozen, rows.reshape(-1, rows.shape[-1]), int(k))
    words = {token: _word(frozen.tokenizer, token) for token in set(tokens.flat)}
    lines = []
    for i, (found, near) in enumerate(zip(tokens.tolist(), cosines.tolist(), strict=True)):
        text, row = divmod(i, rows.shape[-2])
        at = {"row": row} if X is None else {"text": text, "row": row}
        for token, cosine in zip(found, near, strict=True):
            lines.append(at | {"word": words[token], "token": token, "cosine": cosine})
    return _as_frame(lines)


def _task_rows(estimator: Any) -> np.ndarray:
    """Z_S (P, D); of deep prompts that of the first layer."""
    _require_prompt(estimator)
    prompt = live_network(estimator).prompt
    prompt = getattr(prompt, "layers", [prompt])[0]
    if not prompt.has_task:
        raise InvalidParameter(
            "nearest_tokens: gate='instance' has no task prompt Z_S to look at; give X, for the "
            "prompts of its rows"
        )
    return prompt.task.detach().cpu().numpy()


def _rows_of(estimator: Any, X: Any) -> np.ndarray:
    """Prompts (n, P, D) of the rows of X; of deep ones those of the first layer."""
    _require_prompt(estimator)
    prompts = estimator.generate_prompts(X)
    return prompts[:, 0] if prompts.ndim == 4 else prompts


def _require_prompt(estimator: Any) -> None:
    if design_of(estimator).prompt_length == 0:
        raise InvalidParameter(
            "nearest_tokens: prompt_length=0 leaves no prompt to look at; fit with "
            "prompt_length >= 1"
        )


def _nearest(frozen: Any, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Token ids (m, k) nearest to rows (m, D), and their cosines; some words at a time."""
    import torch
    from torch.nn.functional import normalize

    special = set(frozen.tokenizer.all_special_ids)
    n_rows = frozen.embedding.num_embeddings  # a table may be shorter or longer than its vocabulary
    known = sorted({i for i in frozen.tokenizer.get_vocab().values() if i < n_rows} - special)
    ids, wanted = torch.tensor(known), normalize(torch.from_numpy(rows).float(), dim=1)
    best = torch.empty(len(rows), 0, dtype=torch.float32)
    best_ids = torch.empty(len(rows), 0, dtype=torch.long)
    for chunk in ids.split(_CHUNK):
        with torch.no_grad():
            words = frozen.embed(chunk.to(frozen.device)).float().cpu()
        best = torch.cat([best, wanted @ normalize(words, dim=1).T], dim=1)
        best_ids = torch.cat([best_ids, chunk.expand(len(rows), -1)], dim=1)
        best, places = best.topk(min(k, best.shape[1]), dim=1)
        best_ids = best_ids.gather(1, places)
    return best_ids.numpy(), best.numpy()


def _word(tokenizer: Any, token: int) -> str:
    """A token as it reads in a text, or as the vocabulary has it if it is part of a letter."""
    word = tokenizer.decode([token], clean_up_tokenization_spaces=False)
    return tokenizer.convert_ids_to_tokens(token) if "\ufffd" in word or not word else word


def _as_frame(lines: list[dict[str, Any]]) -> Any:
    try:
        import pandas as pd
    except ImportError:
        return lines
    return pd.DataFrame(lines)
