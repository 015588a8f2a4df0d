"""A pass is what the test says, whatever the program does to be told so without it."""

import marshal
import subprocess
import sys

import pytest
from code_fakes import (
    CALLS,
    FORGERS,
    JUMPS,
    LOOKS,
    NOT_EVERYWHERE,
    OF_FUNCTIONS,
    READERS,
    RIGHT,
    RIGHTS,
    STEPS,
    STILL_RUNNING,
    TAKERS,
    TESTS,
)

from sklopa._sandbox import judge, run
from sklopa._sandbox.judge import ENDED, KEY_SIZE
from sklopa._sandbox.run import run_isolated
from sklopa.errors import SandboxUnavailable

pytestmark = pytest.mark.stress

try:
    run_isolated("")
    PROBLEM = ""
except SandboxUnavailable as error:
    PROBLEM = str(error)
confined = pytest.mark.skipif(bool(PROBLEM), reason=PROBLEM or "the sandbox works")

FAKES = {**READERS, **JUMPS, **FORGERS}


def by_name(programs):
    return pytest.mark.parametrize("name", programs)


def question(name):
    return TESTS["function" if name in OF_FUNCTIONS else "plain"]


# ---- wrong programs ----


@by_name([name for name in {**READERS, **JUMPS} if name not in NOT_EVERYWHERE])
def test_these_fakes_pass_on_an_interpreter_that_does_not_guard_its_tests(name):
    code = "names = {'__name__': '__main__'}\n"
    for text, file in ((FAKES[name], "<program>"), (question(name), "<test>")):
        code += f"exec(compile({text!r}, {file!r}, 'exec'), names)\n"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


@confined
@by_name(FAKES)
def test_a_fake_does_not_pass(name):
    result = run_isolated(FAKES[name], question(name), timeout=2)
    assert not result.passed
    assert "SyntaxError" not in result.output  # of the fake, which would then be none


@confined
@by_name(TAKERS)
def test_nothing_of_a_program_runs_before_the_test_calls_it(name):
    assert not run_isolated(TAKERS[name], STEPS, timeout=2).passed


@confined
@by_name(STILL_RUNNING)
def test_a_program_whose_threads_go_on_has_not_ended(name):
    result = run_isolated(STILL_RUNNING[name], CALLS, timeout=2)
    assert result.reason == "timeout" or "still runs" in result.output


# ---- right programs ----


@confined
@by_name(RIGHTS)
def test_a_right_program_passes(name):
    result = run_isolated(RIGHTS[name], CALLS)
    assert result.passed, result


@confined
@by_name(LOOKS)
def test_a_test_and_the_libraries_that_it_calls_may_look_around(name):
    result = run_isolated(*LOOKS[name])
    assert result.passed, result


@confined
@pytest.mark.parametrize("code", ["1", "'a text'", "True", "2.5"])
def test_an_exit_with_another_code_is_no_end(code):
    assert run_isolated(f"{RIGHT}import sys\nsys.exit({code})").reason == "exited"


# ---- the channel ----


@confined
def test_the_test_is_not_in_the_channel_while_the_program_runs():
    program = f"""
import os, select
def is_open(fd):
    try: os.fstat(fd)
    except OSError: return False
    return True
(fd,) = filter(is_open, range(3, 64))
assert select.select([fd], [], [], 0.3) == ([], [], [])
os.write(fd, {ENDED!r})
assert select.select([fd], [], [], 5)[0] == [fd]
early = True
"""
    result = run_isolated(program, "assert early")
    assert not result.passed  # it asked for its test before its end
    assert result.output == ""


@confined
def test_the_channel_cannot_be_closed_replaced_or_peeked_into():
    program = """
import errno, os, select, socket
def number(call, *arguments):
    try: call(*arguments)
    except OSError as error: return error.errno
fds = [fd for fd in range(3, 64) if number(os.fstat, fd) is None]
(fd,) = fds
assert number(os.close, fd) == errno.EBADF
assert number(os.dup2, 0, fd) == errno.EPERM
assert number(os.dup2, 0, fd, False) == errno.EPERM
os.closerange(0, 64)
os.closerange(fd, fd + 1)
assert number(os.fstat, fd) is None
s = socket.socket(fileno=fd)
assert number(s.recv, 9, socket.MSG_PEEK) == errno.EPERM
assert number(s.recvmsg, 9, 0, socket.MSG_PEEK) == errno.EPERM
s.detach()
others = socket.socketpair()  # what is its own, a program can close and read as usual
others[0].send(b'x')
assert others[1].recv(9) == b'x'
assert number(os.close, others[0].detach()) is None
"""
    result = run_isolated(program)
    assert result.passed, result.output


# What stands in the place of the locked process: it has the key and speaks at another time.
_IMPOSTOR = f"""
import json, os, sys
channel = json.load(sys.stdin.buffer)["channel"]
key = os.read(channel, {KEY_SIZE})
def test():
    while os.read(channel, 65536): pass
os.write(channel, b"ready\\n")
"""


@confined
@pytest.mark.parametrize(
    ("speaks", "passes"),
    [
        ("os.write(channel, ended); test(); os.write(channel, key)", True),
        ("os.write(channel, ended + key)", False),
        ("os.write(channel, key); os.write(channel, ended); test()", False),
        ("os.write(channel, key)", False),
        ("os.write(channel, ended); os.write(channel, key); test()", False),
        ("os.write(channel, ended); test(); os.write(channel, key + key)", False),
        ("os.write(channel, ended); test(); os.write(channel, key + b'failed')", False),
        ("os.write(channel, ended); test(); os.write(channel, key[:-1])", False),
        ("os.write(channel, ended); test(); os.write(channel, b'passed')", False),
        ("os.write(channel, ended * 2); test(); os.write(channel, key)", False),
        ("os.write(channel, ended); test(); os.write(channel, b'ready')", False),
    ],
)
def test_only_the_key_alone_and_after_the_test_is_a_pass(monkeypatch, speaks, passes):
    monkeypatch.setattr(run, "_LAUNCH", f"{_IMPOSTOR}ended = {ENDED!r}\n{speaks}")
    test = f"x = {'a' * 10**6!r}"  # more than the channel takes at once
    assert run_isolated(RIGHT, test, timeout=1).passed is passes


# ---- the test ----


def test_asserts_count_however_the_caller_was_started():
    # The package without its __init__, which would compile all of scikit-learn without asserts.
    code = f"""
import marshal, sys, types
sys.modules["sklopa"] = types.ModuleType("sklopa")
sys.modules["sklopa"].__path__ = [{run._PACKAGE!r}]
from sklopa._sandbox.judge import compile_test
assert False
exec(marshal.loads(compile_test("assert 1 == 2")))
"""
    command = [sys.executable, "-OO", "-B", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True)
    assert '"<test>"' in done.stderr
    assert "AssertionError" in done.stderr


def test_a_compiled_test_does_the_same_and_has_no_line():
    text = "def g(n):\n    for i in range(n):\n        yield i * 2\n"
    code = marshal.loads(judge.compile_test(f"{text}found = [*g(300)]\n" + "x = 1\n" * 99))
    names = {}
    exec(code, names)
    assert names["found"] == list(range(0, 600, 2))
    for part in (code, names["g"].__code__):
        assert {line for _, _, line in part.co_lines()} <= {None}


@confined
def test_a_python_that_differs_from_the_callers_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "version", "3.9.0 (another)")
    with pytest.raises(SandboxUnavailable, match="the caller's Python"):
        run_isolated("")
