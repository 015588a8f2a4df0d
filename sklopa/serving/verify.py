"""Whether a server reads what a client sends as the estimator itself would."""

from __future__ import annotations

import re
import warnings
from typing import Any, NamedTuple

from sklopa._loading.description import Backbone, LiveBackbone
from sklopa._public import public
from sklopa._tokens.texts import TextReader
from sklopa.errors import OldServerWarning
from sklopa.serving.answers import log_probabilities, prompt_ids
from sklopa.serving.http import CHAT, Server, Session

_PROBE = "The quick brown fox jumps over the lazy dog, and then it says:"
_PROBE_TOKENS, _PROBE_LOGPROBS, _PROBE_TOLERANCE = 8, 5, 0.01
# The first release that bounds what a tensor unpacks to. Invalid sparse tensors, which write into
# foreign memory, are refused from 0.11.1 on.
_SAFE = (0, 30)


@public("sklopa.serving")
class Agreement(NamedTuple):
    """What `PromptClient.verify` found.

    Attributes
    ----------
    agrees : bool
    difference : float
        Largest difference of a log-probability of the first token, in nats. Of messages, which
        are compared token for token, 0 or infinity.
    message : str
        The same for people.
    """

    agrees: bool
    difference: float
    message: str

    def __bool__(self) -> bool:
        return self.agrees


async def verify(server: Server, writer: Any) -> Agreement:
    """Whether a server agrees with a PromptWriter or ChatWriter, and is of a safe version."""
    from sklopa.serving.chat_writer import ChatWriter

    async with server.connect() as session:
        name, _ = await session.model()
        _warn_if_old(await session.version(), server.url)
        ask = _compare_tokens if isinstance(writer, ChatWriter) else _compare_log_probabilities
        agrees, difference, verdict = await ask(session, name, writer)
    return Agreement(agrees, difference, f"The server at {server.url} {verdict}.")


async def _compare_log_probabilities(
    session: Session, name: str, writer: Any
) -> tuple[bool, float, str]:
    """The same text as tokens and as embeddings."""
    from sklopa.serving.prompt_writer import body_of
    from sklopa.serving.requests import GREEDY

    ids = writer.frozen.tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
    asked = GREEDY | {"max_tokens": _PROBE_TOKENS, "logprobs": _PROBE_LOGPROBS, "model": name}
    theirs = await session.complete(asked | {"prompt": ids}, log_probabilities)
    ours = await session.complete(asked | body_of(writer.embed(ids)), log_probabilities)
    difference = _difference(ours, theirs)
    agrees = difference < _PROBE_TOLERANCE
    verdict = (
        "reads embeddings from here as its own tokens"
        if agrees
        else "reads embeddings from here otherwise than its own tokens: its weights are not "
        "those that the estimator was fitted on, or it scales embeddings once more"
    )
    said = f"(log-probabilities of the first token differ by {difference:.2g})"
    return agrees, difference, f"{verdict} {said}"


async def _compare_tokens(session: Session, name: str, writer: Any) -> tuple[bool, float, str]:
    """What a message is read as, against the tokens of the estimator's own reading."""
    from sklopa.serving.requests import GREEDY

    design = writer.design
    probe = (_PROBE, _PROBE) if design.pairs else _PROBE
    rows = writer.read([probe])
    asked = GREEDY | {"max_tokens": 1, "return_token_ids": True, "model": name}
    theirs = await session.complete(asked | next(writer.bodies(rows)), prompt_ids, CHAT)
    reader = TextReader(
        _tokenizer(design.backbone), name=object(), max_tokens=None, with_types=False,
        template=design.template,
    )  # fmt: skip
    ((ours,), _) = reader.read([probe])
    at, end = ours.prompt_at, ours.prompt_at + design.n_rows
    prompt, text = theirs[at:end], theirs[:at] + theirs[end:]
    if text == ours.ids.tolist() and len({*prompt}) <= 1:
        return True, 0.0, "reads messages token for token as the estimator does"
    is_chat = design.template is not None and design.template.before is not None
    remedy = (
        "without --chat-template, so that it uses the model's own"
        if is_chat
        else "with --chat-template and sklopa.serving.PLAIN_CHAT_TEMPLATE"
    )
    return False, float("inf"), (
        f"reads a message as {len(theirs)} positions, and the estimator reads {len(ours)} tokens "
        f"with {design.n_rows} positions of the prompt behind the first {at} of them, or other "
        f"tokens; start it {remedy}, or use api='completions'"
    )  # fmt: skip


def _tokenizer(backbone: Backbone) -> Any:
    from sklopa._loading.live import load_shell

    if isinstance(backbone, LiveBackbone):
        return backbone.objects[1]
    return load_shell(backbone).tokenizer


def _warn_if_old(version: str | None, url: str) -> None:
    found = re.match(r"(\d{1,5})\.(\d{1,5})[\w.+-]{0,40}", version or "")
    if found and tuple(map(int, found.groups())) < _SAFE:
        safe = ".".join(map(str, _SAFE))
        warnings.warn(
            f"The server at {url} is vLLM {found[0]}, in which a small request with a tensor can "
            f"take all memory, or write into it before 0.11.1. Update it to {safe} or later, and "
            "let only trusted users reach it.",
            OldServerWarning,
            stacklevel=2,
        )


def _difference(ours: dict[str, float], theirs: dict[str, float]) -> float:
    """Largest difference over the likeliest tokens; infinite if these are others."""
    shared = ours.keys() & theirs.keys()
    best = max(theirs, key=theirs.__getitem__)
    if best not in shared:
        return float("inf")
    return max(abs(ours[token] - theirs[token]) for token in shared)
