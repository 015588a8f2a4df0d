"""No test reaches a network: sockets refuse, but for the loopback of tests of servers."""

import socket


class NetworkUsed(BaseException):
    """Something wanted to connect. No `except Exception` hides it."""


_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
allowed: set[str] = set()


def _guarded(name):
    method = getattr(socket.socket, name)

    def connect(self, address):
        if self.family != getattr(socket, "AF_UNIX", None) and address[0] not in allowed:
            raise NetworkUsed(f"a connection to {address!r}")
        return method(self, address)

    return connect


def _guarded_lookup(host, *args, _look_up=socket.getaddrinfo, **kwargs):
    if host is not None and host not in _LOOPBACK:
        raise NetworkUsed(f"a look-up of {host!r}")
    return _look_up(host, *args, **kwargs)


def install() -> None:
    """Let all sockets of this process refuse."""
    for name in ("connect", "connect_ex"):
        setattr(socket.socket, name, _guarded(name))
    socket.getaddrinfo = _guarded_lookup


def allow_loopback(yes: bool) -> None:
    """Whether a test may talk to a server on this machine."""
    allowed.clear()
    allowed.update(_LOOPBACK if yes else ())
