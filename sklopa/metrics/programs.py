"""How many generated programs pass their tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from sklopa._sandbox.run import check_limits, run_isolated
from sklopa.errors import CodeExecutionDisabled, InvalidInput
from sklopa.metrics.pass_at_k import check_counts, integers, pass_at_k
from sklopa.metrics.rows import check_same_length, text_rows, text_table


def code_passes(
    programs: Any,
    tests: Any,
    *,
    timeout: float = 5.0,
    memory_limit: float = 512,
    allow_code_execution: bool = False,
    n_jobs: int | None = 1,
) -> np.ndarray:
    """Tell which programs pass their tests.

    Each program runs in a locked process of its own, followed by its test in the same
    namespace. It passes when both end without an exception; ``sys.exit()`` and ``sys.exit(0)``
    are an end of the program, not of the test, and a program whose threads go on has not ended.
    There is no network, no sub-process, no inherited environment, and it writes only in an
    empty folder that is removed afterwards. This guards against faulty and careless programs;
    it is not a security boundary against programs made to attack: for those use a virtual
    machine.

    Parameters
    ----------
    programs : array-like of str, shape (n,) or (n, n_samples)
        Python source texts, such as the result of ``predict`` or ``sample``.
    tests : array-like of str, shape (n,)
        Python source that raises when a program is wrong, for example ``assert f(2) == 4``.
    timeout : float, default=5.0
        Seconds for one program and its test, counted when the interpreter is ready (about
        0.05 s, which comes on top).
    memory_limit : float, default=512
        MiB of address space for one program, 64 or more. Programs that import numpy need
        about 300.
    allow_code_execution : bool, default=False
        Must be True: running generated code is never a default.
    n_jobs : int or None, default=1
        Programs that run at the same time; -1 for one a processor. More of them than
        processors makes programs near their time limit fail.

    Returns
    -------
    array of bool
        With the shape of `programs`.

    Raises
    ------
    CodeExecutionDisabled
        When `allow_code_execution` is not True.
    SandboxUnavailable
        When this system cannot confine programs as said (anything but Linux 5.13 or newer on
        x86_64 or aarch64 with Landlock). No program runs in that case.
    InvalidType, InvalidInput
        When a row is not a text, lengths differ, a test is not valid Python, or a limit cannot
        be used.

    Notes
    -----
    A program cannot say itself that it has passed. Its process is sent the test only when the
    program has ended, nothing of the program runs until the test calls it, and what proves a
    pass is out of reach for Python code.

    This has a price: a thread that goes on could act while the test runs, and no interpreter can
    stop it for a while, so a right program does not pass if it leaves one running. Such are a pool
    of threads that was not shut down (which takes all of `timeout`), a worker that waits for a
    queue, and the monitor of a tqdm bar. Threads that have ended, and those that the program
    starts and ends while the test calls it, count for nothing.

    Still, program and test share one interpreter, and a program that is written to deceive can

    - return an object that is equal to everything, or that learns from what it is compared to;
    - replace what the test calls: builtins, functions of libraries, functions of the test;
    - read what the test keeps in variables and hands over;
    - read and change the memory of its process, as ``ctypes`` can, and find the proof there;
    - pass off its own code as a library's to look at the code of the test, or leave the looking
      to the test or a library. All other looks at that code are refused.

    So read the programs before you believe a surprising rate, above all those of a model that
    was trained on it. Tests that compare types too (``type(f(2)) is int``) make deceit harder.
    """
    texts, shape = text_table(programs, "programs")
    _check_allowed(allow_code_execution, f"{len(texts)} programs")
    tests = text_rows(tests, "tests")
    check_same_length(range(shape[0]), tests, ("programs", "tests"))
    _check_tests(tests)
    each = len(texts) // len(tests)
    limits = {"timeout": timeout, "memory_limit": memory_limit}
    # Threads suffice: they only wait for processes.
    results = Parallel(n_jobs=n_jobs, backend="threading")(
        delayed(run_isolated)(text, tests[i // each], **limits) for i, text in enumerate(texts)
    )
    return np.array([result.passed for result in results], dtype=bool).reshape(shape)


def code_pass_rate(
    programs: Any,
    tests: Any,
    *,
    timeout: float = 5.0,
    memory_limit: float = 512,
    allow_code_execution: bool = False,
    n_jobs: int | None = 1,
) -> float:
    """Return the share of programs that pass their tests.

    For programs of shape (n, n_samples) this is the mean of pass@1. :func:`code_passes` tells
    the programs one by one; what is said there of limits, protection and errors holds here.

    Parameters
    ----------
    programs : array-like of str, shape (n,) or (n, n_samples)
        Python source texts.
    tests : array-like of str, shape (n,)
        Python source that raises when a program is wrong.
    timeout : float, default=5.0
        Seconds for one program and its test.
    memory_limit : float, default=512
        MiB of address space for one program.
    allow_code_execution : bool, default=False
        Must be True: running generated code is never a default.
    n_jobs : int or None, default=1
        Programs that run at the same time.

    Returns
    -------
    float
        0 to 1.

    Examples
    --------
    >>> from sklopa.metrics import code_pass_rate
    >>> code_pass_rate(
    ...     ["def double(x): return 2 * x", "def double(x): return x"],
    ...     ["assert double(4) == 8", "assert double(4) == 8"],
    ...     allow_code_execution=True,
    ... )  # doctest: +SKIP
    0.5
    """
    passes = code_passes(
        programs,
        tests,
        timeout=timeout,
        memory_limit=memory_limit,
        allow_code_execution=allow_code_execution,
        n_jobs=n_jobs,
    )
    return float(passes.mean())


@dataclass(frozen=True)
class _CodePassScorer:
    """What :func:`make_code_pass_scorer` returns; compares, copies and pickles by its fields."""

    timeout: float
    memory_limit: float
    allow_code_execution: bool
    n_samples: int
    k: int
    n_jobs: int | None

    def __call__(self, estimator: Any, X: Any, y: Any) -> float:
        if self.n_samples == 1:
            programs = estimator.predict(X)
        else:
            programs = estimator.sample(X, self.n_samples)
        passes = code_passes(
            programs,
            y,
            timeout=self.timeout,
            memory_limit=self.memory_limit,
            allow_code_execution=self.allow_code_execution,
            n_jobs=self.n_jobs,
        )
        counts = passes.reshape(len(passes), -1).sum(axis=1)
        return float(np.mean(pass_at_k(self.n_samples, counts, self.k)))


def make_code_pass_scorer(
    *,
    timeout: float = 5.0,
    memory_limit: float = 512,
    allow_code_execution: bool = False,
    n_samples: int = 1,
    k: int = 1,
    n_jobs: int | None = 1,
) -> _CodePassScorer:
    """Make a scorer for ``GridSearchCV(scoring=...)`` that runs the generated programs.

    The scorer's `y` are the tests, one Python source text a row.

    Parameters
    ----------
    timeout : float, default=5.0
        Seconds for one program and its test.
    memory_limit : float, default=512
        MiB of address space for one program.
    allow_code_execution : bool, default=False
        Must be True: running generated code is never a default.
    n_samples : int, default=1
        1 scores ``estimator.predict(X)``; more scores ``estimator.sample(X, n_samples)``.
    k : int, default=1
        Score pass@k, 1 to `n_samples`; see :func:`pass_at_k`.
    n_jobs : int or None, default=1
        Programs that run at the same time.

    Returns
    -------
    callable
        Called with (estimator, X, y); gives a float, 0 to 1.

    Raises
    ------
    CodeExecutionDisabled
        When `allow_code_execution` is not True; at once, since a search would turn an error
        of the scorer into a missing score.
    InvalidInput
        When `k` is not between 1 and `n_samples`, or a limit cannot be used.
    """
    _check_allowed(allow_code_execution, "all generated programs")
    check_limits(timeout, memory_limit)
    check_counts(integers(n_samples, "n_samples"), np.array(0), int(integers(k, "k")))
    return _CodePassScorer(timeout, memory_limit, allow_code_execution, n_samples, k, n_jobs)


def _check_allowed(allow_code_execution: bool, what: str) -> None:
    if allow_code_execution is not True:
        raise CodeExecutionDisabled(
            f"This would execute {what} on this machine, and allow_code_execution is "
            f"{allow_code_execution!r}. Generated code can do harm; it runs confined, but that "
            "is a guard rail and not a security boundary. Pass allow_code_execution=True if "
            "you accept this, best in a virtual machine."
        )


def _check_tests(tests: list[str]) -> None:
    """Find a broken test now; later it would look like a program that fails."""
    for i, test in enumerate(tests):
        try:
            compile(test, f"tests[{i}]", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise InvalidInput(f"tests[{i}] is not valid Python: {error}. Correct it.") from error
