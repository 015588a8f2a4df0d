"""Where a server is, and who asks: nothing secret is left in what is shown."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from sklopa.errors import InvalidParameter

_EXAMPLE = "'http://localhost:8000'"


@dataclass(frozen=True)
class Address:
    """A server's address, apart from the secrets that it is asked with.

    Attributes
    ----------
    url : str, without user, password and ``/v1``
    api_key : str or None
    login : (str, str) or None
        User and password.
    """

    url: str
    api_key: str | None = field(default=None, repr=False)
    login: tuple[str, str] | None = field(default=None, repr=False)

    def hide(self, text: str) -> str:
        """`text` without the secrets, which a server may repeat."""
        for secret in filter(None, (self.api_key, self.login and self.login[1])):
            text = text.replace(secret, "***")
        return text


def read_address(base_url: str, api_key: str | None = None) -> Address:
    """The parts of a `base_url`.

    Raises
    ------
    InvalidParameter
        If it is no address of a server, or a key that no header can hold. Secrets are not shown.
    """
    if api_key is not None and not (
        isinstance(api_key, str) and api_key.isascii() and api_key.isprintable() and api_key.strip()
    ):
        raise InvalidParameter("PromptClient: api_key must be None or printable ASCII characters.")
    url, login = _split(base_url)
    if login and api_key:
        raise InvalidParameter(
            "PromptClient: a server takes either a password in base_url or an api_key, and got "
            "both. Leave one of them out."
        )
    return Address(url.rstrip("/").removesuffix("/v1"), api_key, login)


def _split(base_url: str) -> tuple[str, tuple[str, str] | None]:
    """Address without a login, and the login."""
    if not isinstance(base_url, str):
        raise _unreadable(base_url)
    try:
        parts = urlsplit(base_url)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise _unreadable(base_url) from None  # the cause would show the address
    # What stands behind a "?" would get lost, and an "@" in a path may end a password.
    strange = parts.query or parts.fragment or "@" in parts.path or len(base_url.split()) > 1
    if parts.scheme not in ("http", "https") or not host or strange:
        raise _unreadable(base_url)
    host = f"[{host}]" if ":" in host else host
    url = f"{parts.scheme}://{host}{'' if port is None else f':{port}'}{parts.path}"
    if parts.username is None:
        return url, None
    return url, (unquote(parts.username), unquote(parts.password or ""))


def _unreadable(base_url: object) -> InvalidParameter:
    shown = repr(base_url)
    if isinstance(base_url, str):
        _, at, behind = base_url.rpartition("@")
        behind = re.sub("[?#].*", "?***", behind, flags=re.DOTALL)
        shown = repr(f"***@{behind}" if at else behind)
    return InvalidParameter(
        f"PromptClient: base_url must be the address of a server, such as {_EXAMPLE}, with special "
        f"characters of a password percent-encoded; got {shown}"
    )
