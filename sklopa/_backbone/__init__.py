"""The frozen model: prompt and tokens -> states (B, P + T, D).

It stands before the instance embedding, though a text meets it later: the same frozen model is read
twice, once without a prompt, which gives the instance embedding, and once behind the prompt.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    """`Backbone` was in a module of this name, which earlier pickles still say."""
    if name != "Backbone":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import sklopa

    return sklopa.Backbone
