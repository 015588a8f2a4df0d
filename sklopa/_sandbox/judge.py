"""Run a program and then its test in this interpreter, so that no program can say "passed".

The process begins with a key of 32 random bytes waiting in the channel to the caller, and with
the program, but without the test. In order, and in one expression of :func:`prove`:

1. the key is read out of the channel, where it is then no more;
2. the program runs to its end, and the caller is told so;
3. the caller sends the test, already compiled, and closes its side;
4. the test runs;
5. the key is written back. That is the pass, and there is no other.

The key is never the value of a name. It waits on the value stack of the frame of `prove`, which
no Python code can read or change, and so do the functions that steps 2 to 5 need: to replace
``exec`` or ``os.write``, to walk up the frames or through the garbage collector, to write into
the channel or to read the test out of it too early, all that ends without the key. Code without
line numbers (:func:`without_lines`) leaves a trace function no line to jump to.

What a program can still do while the test calls it is said in
:func:`sklopa.metrics.code_passes`; ``fence.py`` makes one of these things hard.
"""

from __future__ import annotations

import _thread
import linecache
import marshal
import os
import sys
import time
import traceback
import types
from itertools import repeat, takewhile

from sklopa._sandbox.fence import raise_fence

TYPE_CHECKING = False  # that of typing, which is not imported here
if TYPE_CHECKING:
    from collections.abc import Callable

KEY_SIZE = 32  # bytes
ENDED = b"ended\n"
TEST_NAME = "<test>"


def compile_test(text: str) -> bytes:
    """Compile where no program can see the text; asserts stay, however Python was started."""
    code = compile(text, TEST_NAME, "exec", dont_inherit=True, optimize=0)
    return marshal.dumps(without_lines(code))


def without_lines(code: types.CodeType) -> types.CodeType:
    """Return the code without line numbers, so that no frame that runs it can be moved.

    A trace function moves a frame by setting ``f_lineno``; with that, the program could let
    the test skip what fails.
    """
    units = len(code.co_code) // 2
    if sys.version_info >= (3, 11):  # entries of up to 8 units each, "no location"
        table = bytes(0xF8 | min(8, units - start) - 1 for start in range(0, units, 8))
    else:
        table = b""
    inner = (without_lines(c) if isinstance(c, types.CodeType) else c for c in code.co_consts)
    return code.replace(co_linetable=table, co_consts=tuple(inner))


def prove(code: types.CodeType, names: dict, channel: int) -> None:
    """Run the program and then the test from the channel; answer with the key if both end."""
    read, write, run, loads, back, join = os.read, os.write, exec, marshal.loads, reversed, b"".join
    arrivals = takewhile(bool, map(read, repeat(channel), repeat(2**16)))  # read when asked for
    size, ended, exits, fine, wait = KEY_SIZE, ENDED, SystemExit, (None, 0), _wait_for_threads

    def play() -> int:
        try:
            run(code, names)
        except exits as exit:
            if exit.code not in fine:
                raise
        wait()
        return write(channel, ended)

    # Python loads from left to right, so before `play` runs the program the key and all functions
    # are on the stack; `back` is there so that `names` is, too.
    write(
        channel,
        (
            read(channel, size),
            run(*back((names, loads(join((arrivals, play())[0]))))),
        )[0],
    )


prove.__code__ = without_lines(prove.__code__)


def _wait_for_threads(
    modules: dict = sys.modules,
    n_threads: Callable[[], int] = _thread._count,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait as Python does at its end; a thread that has told its end may need a moment more."""
    threading = modules.get("threading")
    if threading is not None:
        for thread in threading.enumerate():
            if thread is not threading.main_thread() and not thread.daemon:
                thread.join()
    n_looks = 100
    while n_threads() and n_looks:
        sleep(0.005)
        n_looks -= 1


def judge(program: str, channel: int, libraries: list[str]) -> bytes:
    """Run the program and its test in one fresh ``__main__``.

    Returns
    -------
    bytes
        What went wrong, in one word; empty when the key has been returned.
    """
    # Taken before foreign code runs: it may replace the builtins and the functions of sys.
    exits, memory, anything, show = SystemExit, MemoryError, BaseException, _show
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    sys.argv = ["program.py"]
    linecache.cache["<program>"] = (len(program), None, program.splitlines(True), "<program>")
    try:
        code = compile(program, "<program>", "exec", dont_inherit=True)
        raise_fence(TEST_NAME, __file__, libraries)
        prove(code, module.__dict__, channel)
    except exits:
        return b"exited"
    except memory:
        return b"memory"
    except anything as error:
        # No contextlib here: foreign code may have replaced what it relies on.
        try:  # noqa: SIM105
            show(error)
        except anything:  # streams replaced or closed by the program: nothing left to show
            pass
        return b"failed"
    return b""


def _show(
    error: BaseException, *, show: Callable = traceback.print_exception, own: str = __file__
) -> None:
    """Print the traceback from the first foreign line on."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == own:
        trace = trace.tb_next
    show(None, error, trace)
