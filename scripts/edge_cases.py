# SPDX-License-Identifier: Apache-2.0
"""The page docs/edge-cases.md: tests/edge-cases.txt beside the tests that are marked as holding each line.

A Python test is marked by `@pytest.mark.edge("A1", ...)`, a C++ test by a line `// Edge: A1 A5` above it.
"""
import ast
import pathlib
import re

CASE = re.compile(r"(?P<later>~?)(?P<id>[A-H]\d+b?): (?P<text>.+?)(?: \[(?P<reason>.+)\])?$")
CPP_MARK = re.compile(r"// Edge: ((?:[A-H]\d+b? ?)+)\n(?:\s*//[^\n]*\n)*\s*(?:CORO_)?TEST(?:_[FP])?\(\s*(\w+),\s*(\w+)")


def marks_of_python(path):
    """(id, test) for each mark on a test function of the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        for mark in getattr(node, "decorator_list", []):
            if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.edge":
                for argument in mark.args:
                    yield argument.value, node.name


def marks_of_cpp(path):
    """(id, test) for each mark above a test of the file."""
    for ids, suite, name in CPP_MARK.findall(path.read_text()):
        for one in ids.split():
            yield one, f"{suite}.{name}"


def holders(root):
    """id -> the tests that hold it, as (path, test) in a stable order."""
    found = {}
    for folder, pattern, marks in (
        ("tests", "test_*.py", marks_of_python),
        ("sdk/python/tests", "test_*.py", marks_of_python),
        ("src", "*_test.cc", marks_of_cpp),
        ("tests", "*_test.cc", marks_of_cpp),
    ):
        for path in sorted((root / folder).rglob(pattern)):
            for one, test in marks(path):
                found.setdefault(one, []).append((path.relative_to(root), test))
    return found


def row(case, tests):
    """A line of the table, and what is wrong with the case if anything is."""
    one, later, reason = case["id"], case["later"], case["reason"]
    if later:
        return f"| {one} | {case['text']} | not in this release: {reason} |", None
    if not tests:
        return f"| {one} | {case['text']} | |", f"tests/edge-cases.txt: no test is marked as holding {one}"
    held = "<br>".join(f"[`{test}`](../{path})" for path, test in tests)
    return f"| {one} | {case['text']} | {held} |", None


def page(root):
    """The page's text, and what is wrong with the marks."""
    lines = [
        "<!-- Made by scripts/generate-docs: change tests/edge-cases.txt or the marks in the tests instead. -->\n",
        "# Edge cases\n",
        "What has gone wrong with reloads elsewhere over the years, and the tests that hold it here.",
    ]
    mistakes, known, marked = [], set(), holders(root)
    for line in (root / "tests/edge-cases.txt").read_text().splitlines():
        if line.startswith("= "):
            lines += [f"\n## {line[2:]}\n", "| | what must hold | held by |", "|---|---|---|"]
        elif line and not line.startswith("#"):
            case = CASE.match(line)
            text, mistake = row(case, marked.get(case["id"], []))
            lines.append(text)
            known.add(case["id"])
            mistakes += [mistake] if mistake else []
    mistakes += [f"{path}: {test} is marked with {one}, which tests/edge-cases.txt does not know"
                 for one, tests in marked.items() if one not in known for path, test in tests]
    return "\n".join(lines) + "\n", mistakes


if __name__ == "__main__":
    import sys
    text, mistakes = page(pathlib.Path(__file__).resolve().parent.parent)
    print("\n".join(mistakes), file=sys.stderr)
