"""What a passed verdict means: no program forges one, and the check sees its true results."""

import pytest

from tests.surgery.sandbox.conftest import linux, run

SENDS = "import json, os, struct\ndef send(d, v, n=None):\n    b = v if isinstance(v, bytes) else json.dumps(v).encode()\n    os.write(d, struct.pack('<I', len(b) if n is None else n) + b)\n"
LOOKS = """
import gc, re, sys
def strings(value, depth=0):
    if isinstance(value, (str, bytes)):
        yield value if isinstance(value, str) else value.decode('latin1')
    elif isinstance(value, (list, tuple, set, dict)) and depth < 3:
        for item in list(value) + (list(value.values()) if isinstance(value, dict) else []):
            yield from strings(item, depth + 1)
def f(x):
    frame, places = sys._getframe(), list(gc.get_objects())
    while frame:
        places += [frame.f_locals, frame.f_globals]
        frame = frame.f_back
    for place in places:
        for text in strings(place):
            if found := re.search('the answer is [0-9]+', text):
                return found[0]
"""
FORGERIES = {
    "prints a verdict": 'print(\'{"passed": true, "reason": "passed"}\\nOK\\npassed\')\ndef f(x): return 0',
    "exits well while loading": "import os\nos._exit(0)",
    "exits well when called": "import os\ndef f(x): os._exit(0)",
    "leaves by sys.exit": "import sys\nsys.exit(0)",
    "leaves by sys.exit when called": "import sys\ndef f(x): sys.exit(0)",
    "raises GeneratorExit": "def f(x): raise GeneratorExit",
    "equals everything": "class A:\n    def __eq__(self, other): return True\ndef f(x): return A()",
    "is a string that equals everything": "class A(str):\n    def __eq__(self, other): return True\n    __hash__ = str.__hash__\ndef f(x): return A('no')",
    "is a list that equals everything": "class A(list):\n    def __eq__(self, other): return True\ndef f(x): return A()",
    "pretends to be a string by __class__": "class A:\n    __class__ = str\n    def __eq__(self, other): return True\ndef f(x): return A()",
    "patches builtins": "import builtins\nbuiltins.AssertionError = builtins.Exception = KeyError\nbuiltins.compile = builtins.exec = lambda *a: None\nbuiltins.__build_class__ = None\nbuiltins.check = lambda c: None\ndef f(x): return 0\ncheck = lambda c: None",
    "patches the harness": "import sys\nfor name, module in list(sys.modules.items()):\n    if name.startswith('surgery'):\n        for key in list(vars(module)):\n            if callable(vars(module)[key]): setattr(module, key, lambda *a, **k: {'passed': True, 'reason': 'passed', 'value': True})\ndef f(x): return 0",
    "patches json": 'import json\njson.dumps = lambda *a, **k: \'{"passed": true, "reason": "passed", "detail": ""}\'\ndef f(x): return 0',
    "deletes the harness": "import sys\nsys.modules.clear()\ndef f(x): return 0",
    "writes a verdict to every descriptor": SENDS
    + "for d in range(1, 256):\n    try:\n        send(d, {'started': True}); send(d, {'passed': True, 'reason': 'passed', 'detail': ''})\n    except OSError: pass\ndef f(x): return 0",
    "answers before it is asked": SENDS
    + "send(4, {'loaded': True}); send(4, {'value': True}); send(4, {'passed': True})\ndef f(x): return 0",
    "answers with an endless message": SENDS
    + "def f(x):\n    send(4, b'[', 2**32 - 1)\n    while True: os.write(4, b'[' * 60000)",
    "answers with a deep message": SENDS + "def f(x): send(4, b'[' * 200000)",
    "answers with no JSON": SENDS + "def f(x): send(4, b'\\xff\\xfe\\x00')",
    "answers with a number": SENDS + "def f(x): send(4, 1)",
    "answers with an unknown kind": SENDS + "def f(x): send(4, {'value': ['eval', '1']})",
    "closes every descriptor": "import os\nos.closerange(0, 256)\ndef f(x): return 0",
    "looks for the check in memory": LOOKS,
    "reads its own memory": "def f(x):\n    maps = open('/proc/self/maps').read()\n    return open('/proc/self/mem', 'rb').read(1) and 'the answer is 4711'",
    "reads the pipe of the check": "import os\ndef f(x):\n    for d in range(256):\n        try: \n            if b'4711' in os.read(d, 100000) and d != 3: return 'the answer is 4711'\n        except OSError: pass",
    "has an exit handler": "import atexit, os\natexit.register(print, 'passed')\ndef f(x): raise SystemExit(0)",
    "handles every signal and recursion": "import sys\nsys.setrecursionlimit(10**9)\ndef f(x): return f(x)",
    "kills the judge": "import os\ndef f(x): os.kill(os.getppid(), 9)",
    "has no such function": "g = 1",
    "is no Python": "def f(x:",
    "is not text": "\udcff",
}


@linux
@pytest.mark.parametrize("attack", FORGERIES)
def test_no_forged_verdict_passes(any_sandbox, attack):
    verdict = run(any_sandbox, FORGERIES[attack], seconds=1.2)
    assert not verdict.passed
    assert verdict.reason != "passed"


@linux
def test_a_check_that_catches_everything_does_not_hide_the_end_of_the_program(sandbox):
    check = "def check(candidate):\n    try:\n        candidate(1)\n    except BaseException:\n        pass"
    assert not run(sandbox, "import os\ndef f(x): os._exit(0)", check).passed
    assert not run(sandbox, "def f(x): return object()", check).passed
    assert run(sandbox, "def f(x): raise ValueError", check).passed


@linux
@pytest.mark.parametrize("check", ["", "def check(candidate):\n    assert True"])
def test_a_check_that_never_calls_the_program_proves_nothing(any_sandbox, check):
    assert run(any_sandbox, "def f(x): return x", check).detail == "the check never called the program"


CARRIED = {
    "(1, 'a', None)": "assert f() == (1, 'a', None) and type(f()) is tuple",
    "[1, 2]": "assert f() != (1, 2)",
    "{'a': {1, 2}, (1, 2): [0.1]}": "assert f() == {'a': {1, 2}, (1, 2): [0.1]}",
    "0.1 + 0.2": "assert f() == 0.1 + 0.2 and f() != 0.3",
    "float('nan')": "assert f() != f()",
    "2 ** 5000": "assert f() == 2 ** 5000",
    "True": "assert f() is True",
    "(x for x in (1, 2))": "assert tuple(f()) == (1, 2) and f() != [1, 2]",
    "range(3)": "assert f() == range(3) and f() != [0, 1, 2]",
    "__import__('collections').Counter('aab')": "assert f() == {'a': 2, 'b': 1}",
    "__import__('decimal').Decimal('0.5')": "assert f() == 0.5",
    "__import__('fractions').Fraction(1, 3)": "assert f() * 3 == 1",
    "'\\ud800 \\0 é'": "assert f() == '\\ud800 \\0 é'",
    "b'ab'": "assert f() == b'ab'",
}


@linux
@pytest.mark.parametrize("value", CARRIED)
def test_results_arrive_with_type_and_value(any_sandbox, value):
    assert run(any_sandbox, f"def f(): return {value}", CARRIED[value]).passed


@linux
def test_an_exception_arrives_under_its_own_type(any_sandbox):
    check = "try:\n    f()\n    assert False\nexcept KeyError as error:\n    assert 'here' in str(error)"
    assert run(any_sandbox, "def f(): raise KeyError('here')", check).passed
    assert not run(any_sandbox, "def f(): raise IndexError('here')", check).passed


@linux
def test_the_program_keeps_its_state_and_the_check_its_arguments(any_sandbox):
    program = "seen = []\ndef f(items):\n    seen.append(items.pop())\n    return len(seen)"
    check = "items = [1]\nassert f(items) == 1\nassert f(items=items) == 2\nassert items == [1]"
    assert run(any_sandbox, program, check).passed


@linux
def test_a_changed_helper_of_the_program_does_not_reach_the_check(any_sandbox):
    helpers = "def double(x):\n    return 2 * x\n"
    check = "def check(candidate):\n    assert double(candidate(3)) == 12"
    program = helpers + "def f(x):\n    return double(x)\n"
    assert any_sandbox.run(program, check, "f", helpers=helpers).passed is True
    forged = "def double(x):\n    return 12\ndef f(x):\n    return double(x)\n"
    assert any_sandbox.run(forged, check, "f", helpers=helpers).passed is False


@linux
def test_sets_have_one_order_so_a_verdict_repeats(any_sandbox):
    program = "def f(): print(list({'a', 'b', 'c', 'd', 'e'}))"
    assert len({run(any_sandbox, program, "f()").output for _ in range(3)}) == 1
