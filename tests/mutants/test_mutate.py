from __future__ import annotations

import ast

import pytest

from .mutate import mutants


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("y = a + b * c", ["(a - b * c)", "(b / c)"]),
        ("y = not a and b", ["(not a or b)", "(a)"]),
        ("y = a < b", ["(a <= b)", "(a >= b)"]),
        ("y = x[2]", ["(3)", "(1)"]),
        ("y = 0.5", ["(1.5)", "(-0.5)"]),
        ("y = True", ["(False)"]),
        ("y = one if a else other", ["(one)", "(other)"]),
        ("y = x.mean()", ["(x.sum())"]),
        ("y = x.square().max(1)", ["(x.square().min(1))", "(x)", "(2)", "(0)"]),
        ("y = f(a, b, c=d)", ["(f(b, a, c=d))", "(f(a, b))"]),
        ("f(a)", ["pass"]),
        ("x += a", ["pass"]),
        ('"""What it says."""', []),
        ("def f(x: int = 3) -> Literal[1]: return x", []),
        ("raise ValueError(f'{a + 1}')", []),
        ("y = f'{a + 1}'", []),
        ("@compiled\ndef f(x):\n    return x + 1", []),
        ("y = 'ä', a + b", ["(a - b)"]),
    ],
)
def test_the_mutants_of_a_line(source, wanted):
    found = mutants(source)
    assert sorted(mutant.text for mutant in found) == sorted(wanted)
    for mutant in found:
        assert mutant.text in mutant.apply(source)
        ast.parse(mutant.apply(source))
