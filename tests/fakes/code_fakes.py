"""Programs that do not do what their test asks, and want to pass all the same.

Each is asked for squares. ``READERS`` look for the answer in the test while it calls them and
give it where they find it; on an unguarded interpreter they pass. ``FORGERS`` want to be told
from nothing but their own end that they have passed.
"""

TESTS = {
    "plain": "assert f(2) == 4\nassert f(5) == 25\nassert f(7) == 49\ndone = True\n",
    "function": r"""
def check(g):
    assert g(2) == 4
    assert g(5) == 25
    assert g(7) == 49
    return True
check(f)
""",
}
# With time between what it defines and what it does.
STEPS = r"""
import time
def first(g): assert g(2) == 4
def second(g): assert g(5) == 25
for _ in range(20):
    time.sleep(0.001)
    sum(range(10**5))
    [[] for _ in range(100)]
first(f)
second(f)
"""
RIGHT = "def f(x): return x * x\n"

# What the readers share: the constant after the question is the answer.
_ANSWER = r"""
import gc, inspect, signal, sys, threading, traceback, types

def answer(x, code):
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            found = answer(x, inner)
            if found: return found
    constants = [c for c in code.co_consts if isinstance(c, int)]
    return constants[constants.index(x) + 1] if x in constants else None

def up(x, frame):
    while frame:
        found = answer(x, frame.f_code)
        if found: return found
        frame = frame.f_back
"""

_READERS = {
    "the caller's constants": r"""
def f(x): return answer(x, sys._getframe(1).f_code)
""",
    "all callers": r"""
def f(x): return up(x, sys._getframe(1))
""",
    "a saved function": r"""
get = sys._getframe
def f(x): return up(x, get(1))
""",
    "currentframe": r"""
def f(x): return up(x, inspect.currentframe().f_back)
""",
    "inspect.stack": r"""
def f(x): return answer(x, inspect.stack()[1].frame.f_code)
""",
    "a getter": r"""
import operator
code = operator.attrgetter('f_back.f_code')
def f(x): return answer(x, code(sys._getframe()))
""",
    "a descriptor": r"""
code = vars(types.FrameType)['f_code'].__get__
def f(x): return answer(x, code(sys._getframe(1)))
""",
    "a traceback": r"""
def f(x):
    try: 1 / 0
    except ZeroDivisionError as e: return up(x, e.__traceback__.tb_frame.f_back)
""",
    "walk_stack": r"""
def f(x):
    for frame, _ in traceback.walk_stack(sys._getframe()):
        if frame.f_code is not f.__code__: return answer(x, frame.f_code)
""",
    "a generator": r"""
def g():
    yield up(X, me.gi_frame.f_back)
def f(x):
    global me, X
    me, X = g(), x
    return next(me)
""",
    "a handler of signals": r"""
def handler(number, frame):
    global found
    found = up(X, frame.f_back)
signal.signal(signal.SIGUSR1, handler)
def f(x):
    global X
    X = x
    signal.raise_signal(signal.SIGUSR1)
    return found
""",
    "a trace function": r"""
def look(frame, event, arg):
    global found
    sys.settrace(None)
    found = up(X, frame)
def f(x):
    global X
    X = x
    sys.settrace(look)
    (lambda: 0)()
    return found
""",
    "a profile function": r"""
def look(frame, event, arg):
    global found
    sys.setprofile(None)
    found = up(X, frame)
def f(x):
    global X
    X = x
    sys.setprofile(look)
    len('')
    return found
""",
    "a thread": r"""
def look(x, found):
    found.append(up(x, sys._current_frames()[threading.main_thread().ident]))
def f(x):
    found = []
    t = threading.Thread(target=look, args=(x, found))
    t.start(); t.join()
    return found[0]
""",
    "a thread from before": r"""
import time
asked, told = [], []
def wait():
    while True:
        time.sleep(0.001)
        if asked:
            x = asked.pop()
            try: told.append(up(x, sys._current_frames()[threading.main_thread().ident]))
            except Exception: told.append(None)
threading.Thread(target=wait, daemon=True).start()
def f(x):
    asked.append(x)
    while not told: time.sleep(0.001)
    return told.pop()
""",
    "the referents of a frame's function": r"""
def f(x):
    for name in ('check',):
        for thing in gc.get_referents(globals()[name]):
            if isinstance(thing, types.CodeType): return answer(x, thing)
""",
    "all objects": r"""
def f(x):
    for thing in gc.get_objects():
        if isinstance(thing, types.FunctionType) and thing.__name__ == 'check':
            for part in gc.get_referents(thing):
                if isinstance(part, types.CodeType): return answer(x, part)
""",
    "the code of the test's function": r"""
def f(x): return answer(x, check.__code__)
""",
    "the signature of the test's function": r"""
def f(x):
    import dis
    return answer(x, dis.Bytecode(check).codeobj)
""",
    "the hooks of the hook": r"""
def f(x):
    for _ in range(3):
        try: return answer(x, sys._getframe(1).f_code)
        except PermissionError as e: t = e.__traceback__
        while t:
            for name, value in t.tb_frame.f_locals.items():
                for word in ('clear', 'pop'):
                    try: getattr(value, word)()
                    except Exception: pass
                try: value.__code__ = (lambda *a, **k: None).__code__
                except Exception: pass
            t = t.tb_next
""",
    "an object that asks for itself": r"""
class Asks:
    def __init__(self, x): self.x = x
    def __eq__(self, other): return up(self.x, sys._getframe(1)) == other
def f(x): return Asks(x)
""",
    "the hooks' functions": r"""
def f(x):
    seen, todo, frame = set(), [], sys._getframe(1)
    while frame:
        todo.append(frame.f_globals)
        frame = frame.f_back
    while todo:
        thing = todo.pop()
        if id(thing) in seen: continue
        seen.add(id(thing))
        if isinstance(thing, dict): todo += list(thing.values())
        elif isinstance(thing, types.FunctionType):
            todo.append(thing.__globals__)
            if thing.__globals__ is not globals() and 'sklopa' in str(thing.__module__):
                thing.__code__ = (lambda *a, **k: None).__code__
    return answer(x, sys._getframe(1).f_code)
""",
    "an event of its own": r"""
import operator
seen = []
class Code:
    def __iter__(self): return map(operator.attrgetter('f_code'), [self.frame])
    __code__ = property(seen.extend)
def f(x):
    it = Code()
    it.frame = sys._getframe(1)
    while it.frame:
        try: sys.audit('object.__getattr__', it, '__code__')
        except Exception: pass
        it.frame = it.frame.f_back
    seen.append(seen[-1] if seen else sys._getframe(1).f_code)
    return next(filter(None, [answer(x, code) for code in seen]))
""",
    "another interpreter": r"""
try: import _xxsubinterpreters as interpreters
except ImportError: import _interpreters as interpreters
look = '''
for frame in sys._current_frames().values():
    found = up(X, frame)
    if found: open('found', 'w').write(str(found))
'''
def f(x):
    run = getattr(interpreters, 'run_string', None) or interpreters.exec
    run(interpreters.create(), SHARED + look.replace('X', str(x)))
    return int(open('found').read())
""",
}

READERS = {name: f"SHARED = {_ANSWER!r}\n{_ANSWER}{program}" for name, program in _READERS.items()}
# These need a function that the test has defined.
OF_FUNCTIONS = {
    "the referents of a frame's function",
    "all objects",
    "the code of the test's function",
    "the signature of the test's function",
}

# These depend on the version of Python: the one was possible once, the other brings it down.
NOT_EVERYWHERE = {"a jump without a trace function", "another interpreter"}

# What the forgers share: all that can be reached, and ways to say it.
_REACH = r"""
import gc, io, marshal, os, signal, socket, struct, sys, threading, time, types
def f(x): return 0

def channels():
    found = []
    for fd in range(3, 64):
        try: os.fstat(fd)
        except OSError: continue
        found.append(fd)
    return found

def frames():
    frame = sys._getframe(1)
    while frame:
        yield frame
        frame = frame.f_back

def things():
    seen, todo = set(), []
    for frame in frames():
        todo += [frame.f_locals, frame.f_globals] if frame.f_globals is not globals() else []
    while todo and len(seen) < 20000:
        thing = todo.pop()
        if id(thing) in seen: continue
        seen.add(id(thing))
        yield thing
        if isinstance(thing, dict): todo += list(thing.values())
        elif isinstance(thing, (list, tuple, set, frozenset)): todo += list(thing)
        elif isinstance(thing, types.FunctionType):
            todo += [c.cell_contents for c in thing.__closure__ or ()]
            todo += list((thing.__defaults__ or ())) + list(thing.__code__.co_consts)
        elif hasattr(thing, '__self__'): todo.append(thing.__self__)

def say(*texts):
    for fd in channels():
        for text in texts:
            try: os.write(fd, text)
            except OSError: pass

def claim(texts):
    # what may be the key, or a proof as it was once
    texts = [t for t in texts if isinstance(t, bytes) and len(t) == 32]
    if texts:
        say(b'ended\n')
        time.sleep(0.1)
        say(texts[0])
        os._exit(0)

def early(wait=0.2):
    # the test, or what can be read of it, once the caller believes in the end of the program
    say(b'ended\n')
    time.sleep(wait)
    data = b''
    for fd in channels():
        os.set_blocking(fd, False)
        try:
            while chunk := os.read(fd, 65536): data += chunk
        except OSError: pass
    return data

TRIVIAL = marshal.dumps(compile('0', '<test>', 'exec'))
"""

_FORGERS = {
    "leaving": r"""
os._exit(0)
""",
    "leaving in the test": r"""
def f(x): os._exit(0)
""",
    "an exit in the test": r"""
def f(x): sys.exit(0)
""",
    "an exit without the work": r"""
del f
sys.exit()
""",
    "an exit at each end": r"""
import atexit
atexit.register(os._exit, 0)
sys.exit(0)
""",
    "the list of codes": r"""
for frame in frames():
    for value in list(frame.f_locals.values()):
        if isinstance(value, list): value.clear()
""",
    "every function in reach": r"""
for thing in list(things()):
    if isinstance(thing, types.FunctionType) and thing.__globals__ is not globals():
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        signal.signal(signal.SIGALRM, lambda *_: 1 / 0)
        for arguments in ((), (None,), (b'',)):
            try: thing(*arguments)
            except BaseException: pass
os._exit(0)
""",
    "every text in reach": r"""
claim(things())
os._exit(0)
""",
    "every text in reach, in the test": r"""
def f(x):
    claim(things())
    os._exit(0)
""",
    "closures by the collector": r"""
try: found = gc.get_objects()
except Exception: found = []
for thing in found:
    if isinstance(thing, types.FunctionType) and thing.__name__ in ('<lambda>', 'play'):
        claim([c.cell_contents for c in thing.__closure__ or ()])
""",
    "values on the stack": r"""
for frame in frames():
    try: claim(gc.get_referents(frame))
    except OSError: pass
""",
    "all frames": r"""
for frame in sys._current_frames().values():
    while frame:
        claim(frame.f_locals.values())
        frame = frame.f_back
""",
    "a guess": r"""
say(b'ended\n' + bytes(32))
os._exit(0)
""",
    "a guess in the test": r"""
def f(x):
    say(bytes(32))
    os._exit(0)
""",
    "a flood": r"""
say(b'ended\n' + bytes(10**5))
""",
    "the test as its own answer": r"""
data = early()
say(data[:32], data[-32:], data)
os._exit(0)
""",
    "a test read too early": r"""
import re
data = early()
code = marshal.loads(data) if data else None
numbers = []
for part in (code, *code.co_consts) if code else ():
    numbers += [c for c in getattr(part, 'co_consts', ()) if isinstance(c, int)]
def f(x): return numbers[numbers.index(x) + 1] if x in numbers else 0
""",
    "a peek at the test": r"""
say(b'ended\n')
time.sleep(0.2)
data = b''
for fd in channels():
    s = socket.socket(fileno=fd)
    try: data += s.recv(10**6, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except OSError: pass
    s.detach()
def f(x): return x * x if data else 0
""",
    "a test of its own": r"""
reading, writing = os.pipe()
os.write(writing, TRIVIAL)
os.close(writing)
for fd in channels():
    if fd != reading:
        try: os.dup2(reading, fd)
        except OSError: pass
""",
    "a test of its own from a socket": r"""
mine, theirs = socket.socketpair()
mine.sendall(TRIVIAL); mine.shutdown(socket.SHUT_WR)
for fd in channels():
    if fd not in (mine.fileno(), theirs.fileno()):
        try: os.dup2(theirs.fileno(), fd)
        except OSError: pass
""",
    "another file with the number": r"""
for fd in channels():
    try: os.close(fd)
    except OSError: continue
    open('x', 'wb').write(TRIVIAL)
    os.open('x', os.O_RDWR)
""",
    "the end of the channel": r"""
for fd in channels():
    s = socket.socket(fileno=fd)
    s.shutdown(socket.SHUT_RD)
    s.detach()
""",
    "a reader in a thread": r"""
def read():
    for fd in channels():
        data = os.read(fd, 65536)
        os.write(fd, data[:32])
        os._exit(0)
threading.Thread(target=read, daemon=True).start()
time.sleep(0.1)
""",
    "a timer": r"""
def later():
    frame = sys._current_frames()[threading.main_thread().ident]
    while frame:
        for value in list(frame.f_locals.values()):
            if frame.f_globals is not globals() and isinstance(value, types.FunctionType):
                claim([c.cell_contents for c in value.__closure__ or ()])
        frame = frame.f_back
    os._exit(0)
threading.Timer(0.05, later).start()
def f(x): time.sleep(1)
""",
    "a thread that leaves": r"""
def f(x):
    threading.Thread(target=os._exit, args=(0,)).start()
    time.sleep(1)
""",
    "an alarm": r"""
import select
def handler(*_):
    ready, _, _ = select.select(channels(), [], [], 0)
    for fd in ready:
        os.write(fd, os.read(fd, 65536)[:32])
        os._exit(0)
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
""",
    "a jump of the frames below": r"""
def jump(frame, event, arg):
    if event == 'line' and frame.f_globals is not globals():
        for line in range(frame.f_lineno + 1, frame.f_lineno + 60):
            try: frame.f_lineno = line; break
            except ValueError: pass
    return jump
for frame in frames(): frame.f_trace = jump
sys.settrace(jump)
""",
    "operations of the frames below": r"""
def look(frame, event, arg):
    claim(frame.f_locals.values())
    return look
for frame in frames(): frame.f_trace, frame.f_trace_opcodes = look, True
sys.settrace(look)
""",
    "a profile of the calls": r"""
def look(frame, event, arg):
    if event == 'c_call' and frame.f_globals is not globals(): sys.settrace(None)
    if isinstance(arg, bytes): say(arg)
sys.setprofile(look)
""",
    "a profile that answers": r"""
def look(frame, event, arg):
    claim([arg, getattr(arg, '__self__', None)])
sys.setprofile(look)
threading.setprofile(look)
""",
    "names of the frames below": r"""
for frame in frames():
    names = frame.f_locals
    if names is globals(): continue
    for name in list(names):
        if callable(names[name]):
            try: names[name] = lambda *a, **k: None
            except Exception: pass
""",
    "the space of names below": r"""
class Names(dict):
    def __setitem__(self, name, value): pass
mine = Names(check=lambda g: None, f=lambda x: x * x, __builtins__=__builtins__)
for frame in frames():
    for name in ('names', 'module'):
        try: frame.f_locals[name] = mine
        except Exception: pass
""",
    "cells of the frames below": r"""
for thing in list(things()):
    if isinstance(thing, types.FunctionType):
        for cell in thing.__closure__ or ():
            if callable(cell.cell_contents): cell.cell_contents = lambda *a, **k: None
""",
    "codes of the functions below": r"""
for thing in list(things()):
    if isinstance(thing, types.FunctionType) and not thing.__closure__:
        try: thing.__code__ = (lambda *a, **k: b'').__code__
        except Exception: pass
""",
    "iterators of the frames below": r"""
for thing in list(things()):
    if hasattr(thing, '__setstate__'):
        for state in (True, 1, (lambda *a: TRIVIAL, (), {}, None)):
            try: thing.__setstate__(state)
            except Exception: pass
""",
    "the frames' own functions again": r"""
code = compile('0', '<test>', 'exec')
for thing in list(things()):
    if isinstance(thing, types.FunctionType) and thing.__name__ == 'prove':
        signal.alarm(1)
        signal.signal(signal.SIGALRM, lambda *_: 1 / 0)
        try: thing(code, {}, channels()[0])
        except ZeroDivisionError: pass
""",
    "a flush": r"""
class Stream:
    def write(self, text): pass
    def flush(self): claim(things())
sys.stdout = sys.stderr = Stream()
""",
    "builtins": r"""
import builtins
for name in ('exec', 'eval', 'compile', 'reversed', 'map', 'bool', 'getattr', 'repr'):
    setattr(builtins, name, lambda *a, **k: None)
""",
    "builtins of the module": r"""
__builtins__ = {'AssertionError': None, '__import__': None}
""",
    "errors": r"""
import builtins
builtins.AssertionError = builtins.BaseException = builtins.SystemExit = StopIteration
""",
    "functions of modules": r"""
import json, linecache, traceback
trivial = marshal.loads(TRIVIAL)
marshal.loads = marshal.load = lambda *a: trivial
os.read = lambda *a: TRIVIAL
os._exit = sys.exit = lambda *a: None
json.load = json.loads = struct.unpack = lambda *a: None
traceback.print_exception = lambda *a: None
""",
    "modules": r"""
for name in list(sys.modules):
    if name != '__main__': sys.modules[name] = types.ModuleType(name)
""",
    "no modules": r"""
sys.modules.clear()
""",
    "imports": r"""
class Finder:
    def find_spec(self, *a): os._exit(0)
sys.meta_path.insert(0, Finder())
import builtins
builtins.__import__ = lambda *a: os
""",
    "hooks on errors": r"""
sys.excepthook = sys.unraisablehook = lambda *a: None
threading.excepthook = lambda *a: None
""",
    "an audit hook": r"""
seen = []
def hook(event, details):
    if event == 'exec': seen.append(details[0])
try: sys.addaudithook(hook)
except Exception: pass
def f(x):
    for code in seen:
        for part in (code, *code.co_consts):
            constants = [c for c in getattr(part, 'co_consts', ()) if isinstance(c, int)]
            if x in constants: return constants[constants.index(x) + 1]
""",
    "the sources of the test": r"""
import linecache
def f(x):
    for line in linecache.getlines('<test>'):
        if f'({x})' in line: return int(line.split('==')[1])
""",
    "the sources of the caller": r"""
import inspect
def f(x): return int(inspect.stack()[1].code_context[0].split('==')[1])
""",
    "the end of an object": r"""
class Last:
    def __del__(self): claim(things())
last = Last()
def f(x):
    global last
    last = None
""",
    "the collector's callback": r"""
def collect(phase, info): claim(things())
gc.callbacks.append(collect)
gc.set_threshold(1)
""",
    "monitoring": r"""
seen = []
m = getattr(sys, 'monitoring', None)
if m:
    m.use_tool_id(0, 'x')
    try: m.register_callback(0, m.events.PY_START, lambda code, offset: seen.append(code))
    except Exception: pass
    m.set_events(0, m.events.PY_START)
def f(x):
    for code in seen:
        constants = [c for c in code.co_consts if isinstance(c, int)]
        if x in constants: return constants[constants.index(x) + 1]
""",
    "no depth": r"""
def f(x):
    sys.setrecursionlimit(50)
    return f(x)
""",
    "no memory": r"""
hog = []
try:
    while True: hog.append(bytearray(2**16))
except MemoryError: pass
""",
    "one open file": r"""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
""",
    "no time": r"""
import resource
resource.setrlimit(resource.RLIMIT_CPU, (1, 1))
def f(x):
    while 1: 0
""",
    "an interrupt": r"""
import _thread
_thread.interrupt_main()
signal.signal(signal.SIGINT, lambda *_: os._exit(0))
def f(x): _thread.interrupt_main()
""",
}

FORGERS = {name: _REACH + program for name, program in _FORGERS.items()}

# A way to skip what fails: move the frame of the caller to another line.
JUMPS = {
    "a jump of the caller": r"""
import sys
def f(x):
    frame = sys._getframe(1)
    def jump(where, event, arg):
        if where is frame and event == 'line':
            for line in range(20, 0, -1):
                try: frame.f_lineno = line; break
                except ValueError: pass
        return jump
    frame.f_trace = jump
    sys.settrace(jump)
    return 4
""",
    "a jump without a trace function": r"""
import sys
def f(x):
    frame = sys._getframe(1)
    def jump(where, event, arg):
        if where is frame and event == 'line':
            for line in range(20, 0, -1):
                try: frame.f_lineno = line; break
                except ValueError: pass
        return jump
    frame.f_trace = jump
    for line in range(20, 0, -1):
        try: frame.f_lineno = line; break
        except ValueError: pass
    return 4
""",
    "a jump by a debugger": r"""
import bdb, sys
class Jump(bdb.Bdb):
    def user_line(self, frame):
        if frame is self.target:
            for line in range(20, 0, -1):
                try: frame.f_lineno = line; break
                except ValueError: pass
def f(x):
    it = Jump()
    it.target = sys._getframe(1)
    it.set_trace(it.target)
    return 4
""",
}

# What runs without being called takes the test's functions away before they are called.
_TAKE = """
import gc, signal, sys, threading, time
def f(x): return 0
def take(*_):
    for name in ('first', 'second', 'check'):
        if name in globals(): globals()[name] = lambda g: None
"""
_TAKERS = {
    "a trace function": r"""
def step(frame, event, arg):
    frame.f_trace_opcodes = True
    take()
    return step
sys.settrace(step)
""",
    "a profile function": r"""
sys.setprofile(take)
""",
    "the collector": r"""
gc.callbacks.append(take)
gc.set_threshold(1)
""",
    "garbage": r"""
class Node:
    def __init__(self): self.me = self
    def __del__(self):
        take()
        Node()
Node()
gc.set_threshold(1)
""",
    "a thread": r"""
def forever():
    while True: take()
sys.setswitchinterval(1e-6)
threading.Thread(target=forever, daemon=True).start()
""",
    "a timer": r"""
def again():
    take()
    threading.Timer(0.001, again).start()
again()
""",
    "an alarm": r"""
signal.signal(signal.SIGALRM, take)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
""",
    "time used": r"""
signal.signal(signal.SIGVTALRM, take)
signal.signal(signal.SIGPROF, take)
signal.setitimer(signal.ITIMER_VIRTUAL, 0.0001, 0.0001)
signal.setitimer(signal.ITIMER_PROF, 0.0001, 0.0001)
""",
}
TAKERS = {name: _TAKE + program for name, program in _TAKERS.items()}

# ---- programs that are right, and tests that look at frames, code and objects ----

CALLS = "assert f(2) == 4\nassert f(5) == 25\n"
RIGHTS = {
    "nothing else": RIGHT,
    "sys.exit under main": RIGHT
    + r"""
import sys
def main():
    print(f(3))
    return 0
if __name__ == "__main__":
    sys.exit(main())
""",
    "sys.exit()": RIGHT + "import sys\nsys.exit()\n",
    "exit code None": RIGHT + "raise SystemExit(None)\n",
    "unittest.main": RIGHT
    + r"""
import unittest
class T(unittest.TestCase):
    def test(self): self.assertEqual(f(3), 9)
if __name__ == "__main__":
    unittest.main()
""",
    "doctest.testmod": r"""
def f(x):
    '''
    >>> f(3)
    9
    '''
    return x * x
if __name__ == "__main__":
    import doctest
    doctest.testmod()
""",
    "closed descriptors": RIGHT + "import os\nos.closerange(0, 1024)\n",
    "descriptors closed one by one": RIGHT
    + r"""
import os
for fd in range(1024):
    try: os.close(fd)
    except OSError: pass
""",
    "closed streams": RIGHT + "import sys\nsys.stdout.close()\nsys.stderr = None\n",
    "output in a file": RIGHT
    + r"""
import os
os.dup2(os.open('log', os.O_CREAT | os.O_WRONLY), 1)
print(f(3))
""",
    "much output": RIGHT + "print('x' * 10**7, end='')\n",
    "output that looks like an answer": RIGHT + "print('ready\\nended\\nfailed')\n",
    "slow": RIGHT + "import time\ntime.sleep(0.5)\n",
    "slow when called": "import time\ndef f(x):\n    time.sleep(0.3)\n    return x * x\n",
    "threads that ended": r"""
import threading
def work(x, out): out.append(x * x)
def f(x):
    out = []
    threads = [threading.Thread(target=work, args=(x, out)) for _ in range(4)]
    for t in threads: t.start()
    for t in threads: t.join()
    return out[0]
f(3)
""",
    "a thread that ends later": RIGHT
    + "import threading, time\nthreading.Thread(target=time.sleep, args=(0.3,)).start()\n",
    "a pool that is closed": r"""
from concurrent.futures import ThreadPoolExecutor
def f(x):
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda y: y * y, [x]))[0]
f(3)
""",
    "an alarm that is left": RIGHT
    + "import signal\nsignal.signal(signal.SIGALRM, lambda *_: 1 / 0)\nsignal.alarm(1)\n",
    "a callback of the collector": RIGHT + "import gc\ngc.callbacks.append(lambda *_: None)\n",
    "asyncio": r"""
import asyncio
async def g(x):
    await asyncio.sleep(0.01)
    return x * x
def f(x): return asyncio.run(g(x))
f(3)
""",
    "signals": r"""
import signal
def f(x):
    signal.signal(signal.SIGALRM, lambda *_: 1 / 0)
    signal.alarm(10)
    try: return x * x
    finally: signal.alarm(0)
""",
    "sockets and pipes": r"""
import os, socket
def f(x):
    a, b = socket.socketpair()
    reading, writing = os.pipe()
    a.send(str(x).encode())
    os.write(writing, b.recv(9))
    x = int(os.read(reading, 9))
    for fd in (reading, writing): os.close(fd)
    a.close(); b.close()
    return x * x
""",
    "log and traceback": r"""
import logging, traceback, warnings
logging.basicConfig(format='%(funcName)s %(message)s')
def f(x):
    logging.warning('called with %s', x)
    warnings.warn('called', stacklevel=2)
    try: 1 / 0
    except ZeroDivisionError:
        traceback.print_exc()
        logging.exception('no')
    return x * x
""",
    "types made when called": r"""
import collections, dataclasses, enum, typing
def f(x):
    P = collections.namedtuple('P', 'x')
    E = enum.Enum('E', 'a b')
    T = typing.NamedTuple('T', [('x', int)])
    D = dataclasses.make_dataclass('D', ['x'])
    return P(x).x * D(T(x).x).x
""",
    "own frames and code": r"""
import gc, inspect, sys
def f(x):
    gc.collect()
    assert sys._getframe().f_code is f.__code__ and f.__code__.co_argcount == 1
    assert inspect.currentframe().f_code.co_name == 'f'
    assert list(inspect.signature(f).parameters) == ['x']
    return x * x
""",
    "a trace function": r"""
import sys
sys.settrace(lambda *a: None)
sys.setprofile(lambda *a: None)
def f(x):
    sys.settrace(None)
    return x * x
""",
    "a hook on imports": r"""
import sys
class Finder:
    def find_spec(self, *a): return None
sys.meta_path.insert(0, Finder())
def f(x):
    import colorsys
    return x * x
""",
    "deep recursion": r"""
import sys
sys.setrecursionlimit(10**5)
def g(n): return 1 + g(n - 1) if n else 0
def f(x): return x * g(x + 3000) - x * 3000
""",
    "names of builtins": RIGHT + "exec = compile = open = None\nid = type = 3\n",
}
# Right, but some of it would still run beside the test.
STILL_RUNNING = {
    "a thread in the background": RIGHT + "import threading, time\n"
    "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n",
    "a thread without an end": RIGHT
    + "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\n",
    "a thread of C": RIGHT + "import _thread, time\n_thread.start_new_thread(time.sleep, (60,))\n"
    "time.sleep(0.1)\n",
    "a timer": RIGHT + "import threading\nthreading.Timer(60, print).start()\n",
    "a pool that is open": r"""
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(2)
def f(x): return pool.submit(lambda: x * x).result()
f(3)
""",
    "a worker of a queue": RIGHT
    + r"""
import queue, threading
jobs = queue.Queue()
def work():
    while True:
        jobs.get()
        jobs.task_done()
threading.Thread(target=work, daemon=True).start()
jobs.put(1)
jobs.join()
""",
}
LOOKS = {
    "a currying function": (
        r"""
import inspect
def f(g):
    n = g.__code__.co_argcount
    assert n == len(inspect.signature(g).parameters)
    def take(*a): return g(*a) if len(a) == n else lambda *b: take(*a, *b)
    return take
""",
        "assert f(lambda a, b, c: a + b + c)(1)(2)(3) == 6\n"
        "def add(a, b): return a + b\nassert f(add)(1)(2) == 3\n",
    ),
    "unittest": (
        RIGHT,
        r"""
import io, unittest
from unittest import mock
class T(unittest.TestCase):
    def test_call(self):
        self.assertEqual(f(2), 4)
        with self.assertRaises(TypeError): f('a')
        with self.assertLogs() as logs:
            import logging
            logging.warning('x')
        with mock.patch('builtins.print') as p: print(1)
        p.assert_called_once_with(1)
    @unittest.expectedFailure
    def test_no(self): self.assertEqual(f(2), 5)
class A(unittest.IsolatedAsyncioTestCase):
    async def test_call(self): self.assertEqual(f(2), 4)
load = unittest.defaultTestLoader.loadTestsFromTestCase
suite = unittest.TestSuite([load(T), load(A)])
result = unittest.TextTestRunner(stream=io.StringIO()).run(suite)
assert result.testsRun == 3 and result.wasSuccessful(), result
""",
    ),
    "own frames, code and objects": (
        RIGHT,
        r"""
import gc, inspect, logging, sys, traceback, warnings
def check(g):
    assert g(2) == 4
    logging.warning('from a test')
    warnings.warn('from a test')
    try: g('a')
    except TypeError: text = traceback.format_exc()
    assert 'in check' in text
    assert inspect.currentframe().f_code.co_name == 'check'
    assert inspect.signature(check).parameters
    assert any(thing is check for thing in gc.get_objects())
    assert sys._getframe(1).f_code.co_name == '<module>'
check(f)
""",
    ),
    "doctest": (
        "def f(x):\n    '''\n    >>> f(3)\n    9\n    '''\n    return x * x\n",
        "import doctest\nassert doctest.testmod() == (0, 1)\n",
    ),
    "a name of the program replaced": (
        "N = 2\ndef f(): return int(input()) * N\n",
        "N = 5\ninput = lambda: '3'\nassert f() == 15\n",
    ),
    "a state of the program": (
        "count = 0\ndef f():\n    global count\n    count += 1\n",
        "f()\nf()\nassert count == 2\n",
    ),
    "a large test": (
        RIGHT,
        "xs = " + repr(list(range(10**5))) + "\nassert all(f(x) == x * x for x in xs)\n",
    ),
    "a test with a future": (
        RIGHT,
        "from __future__ import annotations\n"
        "def g(x: no_such_name): return f(x)\nassert g(2) == 4\n",
    ),
}
