"""Keep a program and its test apart as well as one interpreter allows, by audit hooks.

An audit hook cannot be taken back, and all of this raises audit events:

- The test starts. Until it calls the program, nothing of the program runs any more: no trace
  function, timer or finalizer, and with a thread that goes on the test is refused.
- Something hands out code. That of a running test, which holds the right answers, is refused,
  and so is what would find code in other ways or get around the hooks. The test itself may ask,
  also through a library, as loggers and tracebacks do. Frames are told apart by the names of
  their files, so code that passes itself off as a library's is let through: this is a fence and
  not a wall.

A hook must not run anything of the program's, since what it asks itself is not refused: it
compares identities, and calls nothing but the functions that it was given. Nor must it be in
reach of the program: the functions below are only the patterns of the hooks, and an exception,
which shows the frame of the hook that raised it, shows nothing that could be changed.

Sources: Python documentation, audit events table; PEP 578.
"""

from __future__ import annotations

import _thread
import gc
import os
import signal
import sys
import types

_CODE_OF = {"f_code", "__code__", "gi_code", "cr_code", "ag_code"}
_HAVE_CODE = (
    types.FrameType,
    types.FunctionType,
    types.GeneratorType,
    types.CoroutineType,
    types.AsyncGeneratorType,
)
_CODE_SHOWN = "code of a running test"  # an event of our own
_REFUSED = {_CODE_SHOWN, "gc.get_objects", "gc.get_referents", "gc.get_referrers", "import"}
_REFUSED |= {"sys.addaudithook", "sys.monitoring.register_callback"}
_REFUSED |= {"cpython.PyInterpreterState_New"}
# Another interpreter has hooks of its own; the others call the C functions of this one.
_NO_IMPORT = {"_interpreters", "_xxsubinterpreters", "_testcapi", "_testinternalcapi"}


def raise_fence(test: str, judge: str, libraries: list[str]) -> None:
    """Install the hooks, for good.

    Parameters
    ----------
    test, judge : str
        The file names of the test and of the module that runs it.
    libraries : list of str
        Folders of installed packages.
    """
    folders = [os.path.join(folder, "") for folder in (os.path.dirname(os.__file__), *libraries)]
    given: dict[str, object] = {
        "test": test,
        "own": _as_shown(__file__),
        "judge": _as_shown(judge),
        "may_ask": (_as_shown(test), _as_shown(judge)),
        "may_pass": tuple(_as_shown(start) for start in (*folders, "<frozen ")),
        "names": frozenset(_CODE_OF),
        # By address: to compare types runs a metaclass of theirs. These are never freed, so no
        # other type comes to lie there.
        "kinds": frozenset(map(id, _HAVE_CODE)),
        "code_shown": _CODE_SHOWN,
        "events": frozenset(_REFUSED),
        "modules": frozenset(_NO_IMPORT),
        "refusals": (PermissionError, ImportError),
    }
    given |= {"kind": type, "text": str, "address": id, "show": repr, "get": getattr}
    given |= {"frame_at": sys._getframe, "frames": sys._current_frames, "audit": sys.audit}
    given |= {"tracers": (sys.settrace, sys.setprofile), "set_timer": signal.setitimer}
    given |= {"timers": (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)}
    given |= {"forget_callbacks": gc.callbacks.clear, "freeze": gc.freeze}
    given |= {"n_threads": _thread._count, "threads_go_on": RuntimeError}
    for pattern in (_begin, _notice, _refuse):
        code = pattern.__code__
        needs = code.co_varnames[2 : code.co_argcount]
        values = tuple(given[name] for name in needs)
        sys.addaudithook(types.FunctionType(code, {"__builtins__": {}}, argdefs=values))


def _as_shown(file: str) -> str:
    """How a file stands in the repr of a frame, which, unlike ``f_code``, raises no event."""
    return repr(file)[:-1]


# The names after the first two are the keys of `given`.
def _begin(
    event: str,
    details: tuple,
    judge: str,
    show: types.BuiltinFunctionType,
    frame_at: types.BuiltinFunctionType,
    tracers: tuple[types.BuiltinFunctionType, ...],
    set_timer: types.BuiltinFunctionType,
    timers: tuple[int, ...],
    forget_callbacks: types.BuiltinFunctionType,
    freeze: types.BuiltinFunctionType,
    n_threads: types.BuiltinFunctionType,
    threads_go_on: type[Exception],
) -> None:
    """End what is left of the program when the test starts."""
    if event != "exec":
        return
    starter = show(frame_at(1)).partition(", file ")[2]
    if not (starter.startswith(judge) and starter.endswith(" prove>")):
        return
    forget_callbacks()
    freeze()  # what the program left is not collected, so nothing of it is finalized
    for tracer in tracers:
        tracer(None)
    for timer in timers:
        set_timer(timer, 0)
    if n_threads():
        raise threads_go_on("a thread of the program still runs, so the test was not started")


def _notice(
    event: str,
    details: tuple,
    test: str,
    own: str,
    names: frozenset[str],
    kinds: frozenset[int],
    kind: type,
    text: type,
    address: types.BuiltinFunctionType,
    show: types.BuiltinFunctionType,
    get: types.BuiltinFunctionType,
    frame_at: types.BuiltinFunctionType,
    frames: types.BuiltinFunctionType,
    code_shown: str,
    audit: types.BuiltinFunctionType,
) -> None:
    """Turn a look at the code of a running test into an event of its own."""
    if event != "object.__getattr__":
        return
    target, name = details
    if kind(name) is not text or name not in names or address(kind(target)) not in kinds:
        return
    asker = show(frame_at(1)).partition(", file ")[2]
    if asker.startswith(own) and asker.endswith(" _notice>"):  # the looks below
        return
    code = get(target, name)
    if code.co_filename != test:
        return
    for frame in frames().values():
        while frame is not None:
            if frame.f_code is code:
                audit(code_shown)
            frame = frame.f_back


def _refuse(
    event: str,
    details: tuple,
    events: frozenset[str],
    modules: frozenset[str],
    may_ask: tuple[str, ...],
    may_pass: tuple[str, ...],
    kind: type,
    text: type,
    show: types.BuiltinFunctionType,
    frame_at: types.BuiltinFunctionType,
    code_shown: str,
    refusals: tuple[type[Exception], type[Exception]],
) -> None:
    """Refuse these events to the program, but not to the test and a library that it calls."""
    if event not in events:
        return
    if event == "import" and (kind(details[0]) is not text or details[0] not in modules):
        return
    frame = frame_at(2 if event == code_shown else 1)
    while frame is not None:
        file = show(frame).partition(", file ")[2]
        if file.startswith(may_ask):
            return
        if not file.startswith(may_pass):
            break
        frame = frame.f_back
    raise refusals[event == "import"](f"{event}: refused to a program whose test may be running")
