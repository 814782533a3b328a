#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails when a clause of a specification in docs/ names no test, or one that is not in the tree, or when the numbers of
clauses are not in order. A clause is a paragraph that begins with its number in bold, **T1.2**, and ends with a line
"Tests: `Suite.Test`, `module.Class.test`". `--self-test` shows that each rule can fail."""

import argparse
import pathlib
import re
import sys

SPECIFICATIONS = ["ttl.md"]
CLAUSE = re.compile(r"^\*\*([A-Z])(\d+)\.(\d+)\*\*", re.MULTILINE)
TESTS = re.compile(r"^Tests?: (.*)$", re.MULTILINE)
GTEST = re.compile(r"^(?:TYPED_)?TEST(?:_F|_P)?\(\s*(\w+),\s*(\w+)\s*\)", re.MULTILINE)
PYTHON_CLASS = re.compile(r"^class (\w+)", re.MULTILINE)
PYTHON_TEST = re.compile(r"^    def (test_\w+)", re.MULTILINE)


def known_tests(root):
    found = set()
    for path in (root / "tests").rglob("*.[ch]pp"):
        found.update(".".join(match) for match in GTEST.findall(path.read_text(encoding="utf-8")))
    for path in (root / "tests").rglob("*_test.py"):
        text = path.read_text(encoding="utf-8")
        starts = [*PYTHON_CLASS.finditer(text)]
        for start, end in zip(starts, [*(later.start() for later in starts[1:]), len(text)]):
            body = text[start.end():end]
            found.update(f"{path.stem}.{start.group(1)}.{name}" for name in PYTHON_TEST.findall(body))
    return found


def check(name, text, tests):
    clauses = [*CLAUSE.finditer(text)]
    if not clauses:
        yield f"{name}: no clauses"
    before = None
    for clause, end in zip(clauses, [*(later.start() for later in clauses[1:]), len(text)]):
        title = clause.group(0).strip("*")
        number = (int(clause.group(2)), int(clause.group(3)))
        expected = [(1, 1)] if before is None else [(before[0], before[1] + 1), (before[0] + 1, 1)]
        if number not in expected:
            yield f"{name}: {title} is out of order"
        before = number
        named = [test for line in TESTS.findall(text[clause.start():end]) for test in re.findall(r"`([^`]+)`", line)]
        if not named:
            yield f"{name}: {title} names no test"
        for test in named:
            if test not in tests:
                yield f"{name}: {title} names {test}, which is not there"


# A specification that breaks one rule, and a word of the complaint it has to cause.
BAD_TEXTS = [
    ("No clause.", "no clauses"),
    ("**T1.1** A.\nTests: `A.B`\n\n**T1.3** C.\nTests: `A.B`\n", "T1.3 is out of order"),
    ("**T1.1** A.\nTests: `A.B`\n\n**T1.1** C.\nTests: `A.B`\n", "T1.1 is out of order"),
    ("**T1.1** A.\n\n**T1.2** B.\nTests: `A.B`\n", "T1.1 names no test"),
    ("**T1.1** A.\nTests: `A.C`\n", "names A.C"),
]
GOOD_TEXT = "**T1.1** A.\nTests: `A.B`\n\n**T1.2** B.\nTests: `A.B`\n\n**T2.1** C.\nTests: `a.B.test_c`, `A.B`\n"


def self_test():
    tests = {"A.B", "a.B.test_c"}
    for text, complaint in BAD_TEXTS:
        mistakes = list(check("bad", text, tests))
        if not any(complaint in mistake for mistake in mistakes):
            sys.exit(f"not found out: {complaint}; found {mistakes}")
    if mistakes := list(check("good", GOOD_TEXT, tests)):
        sys.exit(f"complains of nothing: {mistakes}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--self-test", action="store_true")
    if parser.parse_args().self_test:
        return self_test()
    root = pathlib.Path(__file__).resolve().parents[2]
    tests = known_tests(root)
    present = [path for path in (root / "docs" / name for name in SPECIFICATIONS) if path.exists()]
    mistakes = [mistake for path in present
                for mistake in check(path.name, path.read_text(encoding="utf-8"), tests)]
    if mistakes:
        sys.exit("\n".join(mistakes))


if __name__ == "__main__":
    main()
