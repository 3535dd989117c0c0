"""Hostile model texts: no code runs, nothing crashes, nothing hangs. Witness: an audit hook that sees every `exec`,
`compile`, `open`, `import` and process Python starts while a text is read; the clock.
"""

from __future__ import annotations

import dataclasses
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from pkpd.ground.errors import InputError
from pkpd.ground.validation import hints_of
from pkpd.model import dosing, golden, library, observed, parts, regimen, spec
from pkpd.model.equations import (
    Binary,
    Call,
    Compare,
    Logic,
    Name,
    Number,
    Unary,
    equations,
    evaluate,
    expression,
    walk,
)  # fmt: skip
from pkpd.model.spec import Model

BASE = library.model_path("theophylline").read_text()
WATCHED = (
    "compile",
    "exec",
    "os.system",
    "subprocess.Popen",
    "socket.connect",
    "pickle.find_class",
    "os.exec",
    "ctypes.dlopen",
)
LIMIT = 2.0
_heard: list[str] = []
_listening = [False]


def _hook(event: str, args: tuple[object, ...]) -> None:
    if _listening[0] and event in WATCHED:
        _heard.append(event)


sys.addaudithook(_hook)


@contextmanager
def nothing_runs() -> Iterator[None]:
    """Fails where Python compiled or ran anything, or the time was up."""
    _heard.clear()
    start = time.process_time()
    _listening[0] = True
    try:
        yield
    finally:
        _listening[0] = False
    assert not _heard, _heard
    assert time.process_time() - start < LIMIT


def warm() -> None:
    """What is imported and compiled at first use is so before anybody listens: that is no code of the text."""
    every = "exp(1) + log(2) + expit(1) + tanh(1) + 2^0.5 + sin(1) + cos(1) + lgamma(2) + factorial(3.5)"
    evaluate(expression(every), {})
    for module in (dosing, golden, observed, parts, regimen, spec):
        for noun in vars(module).values():
            if dataclasses.is_dataclass(noun):
                hints_of(noun)  # our own annotations, which Python keeps as text
    read(BASE)
    read(BASE.replace("1.53 1/h", "1.53 1/fortnight"))
    read(BASE.replace("1.53 1/h", "1.53 1/nosuchunit"))


def read(source: str) -> str:
    """`ok` or `refused`; anything else is a crash."""
    try:
        Model.parse(source)
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return "refused"
    return "ok"


CODE = [
    "__import__('os').system('true')", "().__class__.__bases__[0].__subclasses__()", "a.__class__", "a.b.c.d",
    "exec('1')", "eval('1')", "open('/etc/passwd')", "lambda: 1", "(lambda x: x)(1)", "[x for x in (1,)]", "{1: 2}",
    "f'{1}'", "'a'*9", '"a"', "a if a > 1 else 2", "a := 3", "*a", "**a", "a[0]", "a[::2]", "a@b", "a//b", "a%b", "a<<3",
    "a>>3", "a&b", "a|b", "~a", "a^^b", "1j", "0x10", "0b1", "0o7", "1_000", "1e9999", "1e-9999", "NaN", "nan", "inf",
    "-inf", "Infinity", "None", "True", "False", "print(1)", "globals()", "locals()", "vars()", "getattr(a, b)",
    "np.exp(1)", "sympy.Symbol", "pkpd.engine", "import os", "from os import system", "yield 1", "await a", "del a",
    "assert a", "raise a", "return 1", "while 1: 1", "a; b", "a\\\nb", "a = b = c", "a == b == c", "if(a, b, c)",
    "if(1 < 2, 3)", "exp()", "exp(1, 2)", "min()", "max(1)", "log(1, 2)", "pow(2)", "sin()", "factorial()", "lgamma(1,2)",
    "exp(exp(exp(exp(exp(9)))))", "9^9^9^9^9^9", "2^1e300", "(-1)^0.5", "0^0", "1/0", "0/0", "log(0)", "log(-1)",
    "factorial(1e300)", "sqrt(-1)", "logit(2)", "d/dt(a)", "d/dt", "dt", "d", "a(0)", "a(1)", "0(0)", "TIME(0)", "exp",
    "and", "not", "or", "not not not 1", "1 and 2", "a and b", "a < b < c < d < e", "(a > 1) + 1", "-(a > 1)",
    "(" * 500 + ")" * 500, "(" * 61 + "1" + ")" * 61, "-" * 5000 + "1", "not " * 3000 + "1 < 2", "a^" * 3000 + "a",
    "+".join("a" * 3000), "exp(" * 2000 + "1" + ")" * 2000, "if(1 < 2, " * 1000 + "1" + ", 2)" * 1000, "a" * 100_000,
    "1" * 100_000, "1." + "0" * 100_000, "((((((((((a+a)+a)+a)+a)+a)+a)+a)+a)+a)" * 90, "a*" * 10_000 + "a",
    "e\u0078p(1)", "\u0435xp(1)", "exp\u200b(1)", "\uff45xp(1)", "a\u2212b", "a\u00b7b", "a\u00d7b", "\u00b5g", "\u0661+1",
    "\u2160+1", "1\u0665", "a\u00a0+\u00a0b", "\u202ea+b", "a\x00b", "a\x0bb", "a\x1bb", "\ufeffa", "a\u2028b", "\ud7ff",
    "caf\u00e9", "\U0001d5ba+1", "x\u0301", "${a}", "{{a}}", "%s", "%(a)s", "`ls`", "$(ls)", "a;rm -rf /", "a\tb", "<script>",
    "?", "!", "a!b", "a=b", "a==", "==a", "<a", "a<", "a<>b", "a!=b!=c", "a,b", ",", "()", "(,)", ")", "(", ")(", "a)", "(a",
    "a b", "1 2", "1a", "a1.2", "1..2", ".", "..", "1e", "1e+", ".e1", "+", "-", "*", "/", "^", "**", "a ** b", "a^*b",
    "# comment only", "a # b", "a //b", "/* a */", "--a", "+-+-a", "a++b", "a+++b", "1e400*0", "1e308*1e308",
]  # fmt: skip

YAML = [
    "!!python/object/apply:os.system ['true']", "!!python/name:os.system", "!!map {}", "&a [*a]", "*unknown", "<<: {a: 1}",
    "? complex\n: key", "%YAML 1.1\n---\na: 1", "--- \n---\n", "a: 1\na: 2", "[" * 200 + "]" * 200, "{" * 200 + "}" * 200,
    "- " * 5000, "a: " * 100, "'unclosed", '"\\x41', "|\n x", ">\n" + "x" * 100, "\t- a", "a: b: c", "@a", "`a`", "a: !!binary aGk=",
    "{a: &x {b: *x}}", "[" + "a," * 20_000 + "]", "null", "~", "", " ", "\n\n\n", "- 1\n- 2", "42", "vtrial: model/1",
    "vtrial: [model/1]", "vtrial: {model: 1}", "a" * 999_999, "x" * 1_000_001, "# " + "c" * 999_000, "\u0000", "\r\r\r",
]  # fmt: skip

FIELDS = [
    ("1.53 1/h", ["1e400 1/h", "-0 1/h", "1.53 (1/h)", "1.53 1/h^99", "1.53 h^-1/h^-1/h", "1.53 1/" + "h" * 500, "1.53  1/h",
                  "1.53 __import__", "nan 1/h", "1_0 1/h", "1.53 1/\u0127", "0x1 1/h", "1.53 1/h/1/h/1/h/1/h/1/h/1/h"]),
    ("above: CL/V", ["above: 1/0", "above: KA", "above: CL^99999", "above: exp(CL/V", "above: a.__class__"]),
    ("lkj: 2", ["lkj: 1e999", "lkj: -1", "lkj: [2]", "lkj: {a: 1}", "lkj: 2, lkj: 2"]),
    ("block: [KA, CL, V]", ["block: [KA, KA]", "block: []", "block: KA", "block: [[KA]]", "block: [" + "KA, " * 5000 + "]"]),
    ("[[CL, V, 0.55]]", ["[[CL, V]]", "[[CL, V, 0.55, 1]]", "[CL, V, 0.55]", "[[CL, V, 1e-400]]", "[[CL, V, x]]"]),
    ("states: {depot: mg", ["states: {__class__: mg", "states: {d: mg", "states: {exp: mg", "states: {TIME: mg", "states: {1: mg"]),
    ("is: C,", ["is: __doc__,", "is: C.C,", "is: [C],", "is: {C: C},", "is: 'C C',"]),
]  # fmt: skip


def texts() -> Iterator[str]:
    """Every hostile text: expressions in each place an expression stands, broken YAML, broken fields."""
    for code in CODE:
        yield BASE.replace("C = central/V", f"C = {code}".replace("\n", "\n  "))
    for code in CODE[::3]:
        yield BASE.replace("above: CL/V", f"above: {code}")
    yield from YAML
    for source in YAML:
        yield BASE + source
    for old, news in FIELDS:
        assert BASE.count(old) == 1
        yield from (BASE.replace(old, new) for new in news)


HOSTILE = list(texts())


def test_there_are_at_least_200_of_them() -> None:
    assert len(set(HOSTILE)) >= 200


def test_no_hostile_text_runs_crashes_or_hangs() -> None:
    warm()
    outcomes = {"ok": 0, "refused": 0}
    for source in HOSTILE:
        with nothing_runs():
            outcomes[read(source)] += 1
    assert outcomes["refused"] > 0.85 * len(HOSTILE)  # a few, such as 9^9 or a comment, are harmless arithmetic


HARMLESS = frozenset(
    {
        "NaN", "nan", "inf", "-inf", "Infinity", "None", "True", "False", "a == b == c", "exp(exp(exp(exp(exp(9)))))",
        "9^9^9^9^9^9", "2^1e300", "(-1)^0.5", "0^0", "1/0", "0/0", "log(0)", "log(-1)", "factorial(1e300)", "sqrt(-1)",
        "logit(2)", "(" * 61 + "1" + ")" * 61, "e\u0078p(1)", "a=b", "a!=b!=c", "a # b", "--a", "+-+-a", "a++b", "a+++b",
        "1e308*1e308",
    }
)  # fmt: skip
"""Words that are names of nothing, arithmetic without a value, harmless signs: all the texts above that are read."""


@pytest.mark.parametrize("code", CODE)
def test_expressions_alone(code: str) -> None:
    """Read or refused; what is read is a tree of our own nodes, and nothing ran."""
    kinds = (Number, Name, Unary, Binary, Compare, Logic, Call)
    trees = []
    for parse in (expression, equations):
        with nothing_runs(), suppress(InputError):
            found = parse(code)
            trees += [line.expression for line in found] if isinstance(found, tuple) else [found]
    assert len(trees) <= 1  # no text is both an expression and an equation
    assert all(type(node) in kinds for tree in trees for node in walk(tree))
    assert bool(trees) == (code in HARMLESS)


PIECES = [
    "d/dt(", "central", "depot", "CL", "V", "KA", "C", "=", "(", ")", ",", "+", "-", "*", "/", "^", "exp(", "log(", "if(", "<",
    "and", "or", "not ", "1", "0.5", "1e9", "\n", " ", "#", ".", "__class__", "TIME", "TAD", "{", "}", "[", "]", ":", "'", '"', "!",
    "&a", "*a", "é", "\t", "iiv: ", "mg", "L/h", "scale: ", "boxcox(", "t(", "omega", "golden: ", "events: ", "\u2212", "|", "~", "0",
]  # fmt: skip


def fuzzed(number: int, seed: int) -> Iterator[Callable[[], object]]:
    """`number` random texts: expressions and equations of grammar pieces, and a sound model with random damage."""
    rng = random.Random(seed)
    for k in range(number):
        if k % 10 == 0:
            at, cut = rng.randrange(len(BASE)), rng.randrange(12)
            put = "".join(rng.choices(PIECES, k=rng.randrange(4)))
            yield lambda s=BASE[:at] + put + BASE[at + cut :]: Model.parse(s)
        else:
            text = "".join(rng.choices(PIECES, k=rng.randrange(1, 40)))
            parse = equations if k % 2 else expression
            yield lambda s=text, p=parse: p(s)


def fuzz(number: int, seed: int) -> float:
    """Run them; the longest took this many seconds."""
    warm()
    worst = 0.0
    for act in fuzzed(number, seed):
        start = time.process_time()
        with nothing_runs(), suppress(InputError):
            act()
        worst = max(worst, time.process_time() - start)
    return worst


def test_fuzzed_texts_do_no_more_than_an_input_error() -> None:
    assert fuzz(3_000, 1) < LIMIT


@pytest.mark.slow
def test_a_hundred_thousand_fuzzed_texts() -> None:
    assert fuzz(100_000, 2) < LIMIT
