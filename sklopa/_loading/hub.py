"""The model hub: what its names look like, and whether it can be reached."""

from __future__ import annotations

import re
import time

_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)
# A hub that is there answers in well under a second. One that is not is asked again after a while:
# a search must not wait for it in every fit.
_TIMEOUT_S, _REMEMBERED_S = 3.0, 60.0

_silent_until = 0.0


def looks_like_hub_id(name: str) -> bool:
    """Whether a name may be that of a model on the hub: "name" or "user/name", and no path."""
    return _ID.fullmatch(name) is not None


def hub_answers() -> bool:
    """Whether the hub answers, asked once; that it does not is remembered for a minute.

    Its own client tries each file for up to a minute where there is no connection. Where the user
    has turned the hub off, the client knows, and nothing is asked.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    global _silent_until
    if constants.HF_HUB_OFFLINE:
        return True
    if time.monotonic() < _silent_until:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=_TIMEOUT_S)  # any answer will do
    except Exception:  # a client's errors are of many kinds
        _silent_until = time.monotonic() + _REMEMBERED_S
        return False
    return True


def hub_address() -> str:
    """Where the hub is, for messages."""
    from huggingface_hub import constants

    return constants.ENDPOINT
