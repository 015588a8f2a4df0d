"""A small labelled text data set, shipped with the package, for examples and tests."""

from __future__ import annotations

import csv
from importlib import resources
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from .errors import MissingDependency

__all__ = ["load_intents"]

_DESCR = """\
Customer messages in eight intents
----------------------------------

:Number of messages: 408, in shuffled order
:Number of classes: 8, with 51 messages each
:Language: English, 3 to 25 words a message
:Missing values: none

Short messages to an online shop with accounts. The label says what the customer wants:

- cancel_order: stop a purchase or a subscription before it is sent
- change_address: alter where something is delivered or billed
- payment_problem: paying fails, or the amount charged is wrong
- product_question: learn about an article, its stock or its use
- refund_status: ask about money that should come back
- reset_password: get into the account again, or change the login
- return_item: send an article back or exchange it
- track_order: learn where an order is and when it arrives

Some messages use the words of a neighbouring intent ("I don't want to cancel, I just want
to know if the boots will be here"), so counting words does not separate the classes fully.
Typos, slang and names with non-ASCII letters are part of the data.

The messages were written one by one for this package. They are not filled-in templates,
they were not collected from customers, and the names and numbers in them are invented.
They carry the licence of the package, BSD-3-Clause.
"""


def load_intents(*, return_X_y: bool = False, as_frame: bool = False) -> Bunch | tuple[Any, Any]:
    """Load the customer intents data set (text classification).

    The messages were written one by one for this package, without templates and without
    data of real customers. They carry the licence of the package, BSD-3-Clause.

    =================   ==============
    Classes                          8
    Samples per class               51
    Samples total                  408
    Features             text (English)
    =================   ==============

    Parameters
    ----------
    return_X_y : bool, default=False
        If True, return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        If True, `data` and `target` are pandas Series and `frame` is a DataFrame.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        Dictionary-like object with the following attributes.

        data : ndarray or Series of shape (408,), dtype object
            The messages, as str.
        target : ndarray or Series of shape (408,), dtype object
            The intent of each message, as str.
        frame : DataFrame of shape (408, 2) or None
            The columns ``text`` and ``intent``; None unless `as_frame` is True.
        target_names : list of str
            The 8 intents, sorted.
        DESCR : str
            The full description of the data set.
        filename : str
            The name of the data file.
        data_module : str
            The package folder that holds the data file.

    (data, target) : tuple if `return_X_y` is True
        The arrays, or Series, described above.

    Raises
    ------
    MissingDependency
        If `as_frame` is True and pandas is not installed.

    Examples
    --------
    >>> from sklopa.datasets import load_intents
    >>> intents = load_intents()
    >>> intents.data.shape
    (408,)
    >>> intents.target_names[:3]
    ['cancel_order', 'change_address', 'payment_problem']
    >>> X, y = load_intents(return_X_y=True)
    >>> print(X[3], "->", y[3])
    You took the money but there is no order in my account. -> payment_problem
    """
    path = resources.files("sklopa") / "data" / "intents.csv"
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    data = np.array([row["text"] for row in rows], dtype=object)
    target = np.array([row["intent"] for row in rows], dtype=object)
    target_names = sorted(set(target))

    frame = None
    if as_frame:
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingDependency("load_intents(as_frame=True) needs pandas.") from error
        frame = pd.DataFrame({"text": data, "intent": target}, dtype=object)
        data, target = frame["text"], frame["intent"]

    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        frame=frame,
        target_names=target_names,
        DESCR=_DESCR,
        filename="intents.csv",
        data_module="sklopa.data",
    )
