# SPDX-License-Identifier: Apache-2.0
"""The rules of the house that no compiler checks. `check_style.py [ROOT]` prints what breaks them.

Exceptions stand in tests/style/exceptions.txt, with their reasons: that list is the project's debt.
"""
import ast
import pathlib
import re
import sys
from dataclasses import dataclass

import cpp_scan

LINE_MAX = 100
PYTHON_LINE_MAX = 120  # Python has no formatter here, and its tests are full of texts.
FILE_MAX = 400
FUNCTION_MAX = 70
NESTING_MAX = 3

# A room includes only rooms on lower floors: the table of docs/architecture.md.
FLOORS = {
    "base": 0, "os": 1, "config": 1, "async": 2, "steer": 3, "clone": 3, "ring": 3, "http": 3,
    "supervise": 4, "journal": 4, "relay": 5, "tools": 5, "functions": 6, "jobs": 6, "api": 7,
    "daemon": 8, "cli": 9,
}

FOLDERS = ("src", "tests", "sdk", "examples", "scripts", "bench", "cmake", "bpf", "console",
           "deploy", ".ci")
SKIPPED_FOLDERS = {"build", "bin", "__pycache__", "testdata", "node_modules", ".pytest_cache"}
CPP = {".cc", ".h"}
SOURCE = CPP | {".c", ".def", ".cmake", ".py", ".sh", ".js", ".ts", ".go", ".rs"}
FORBIDDEN_WORDS = {"util", "utils", "common", "helper", "helpers", "manager", "managers", "misc"}
# Headers that cost seconds in every file that sees them.
HEAVY = re.compile(r"<(?:boost/beast|spdlog/|yaml-cpp/|CLI/|boost/json(?!/fwd\.hpp))")


@dataclass(frozen=True)
class Violation:
    rule: str
    path: str
    line: int
    symbol: str
    message: str

    def __str__(self):
        return f"{self.path}:{self.line}: {self.rule}: {self.message}"


class File:
    """One file under the root, read once."""

    def __init__(self, root, path):
        self.path = path.relative_to(root).as_posix()
        self.text = path.read_text(encoding="utf-8", errors="replace")
        self.lines = self.text.splitlines()
        self.suffix = path.suffix
        self.is_cpp = path.suffix in CPP
        self.is_test = bool(re.search(r"(_test|_bench|_fuzz|/testing)\.(cc|h)$", self.path))
        shebang = self.lines[0] if self.lines and self.lines[0].startswith("#!") else ""
        self.is_python = path.suffix == ".py" or "python" in shebang
        self.is_source = (path.suffix in SOURCE or bool(shebang)
                          or path.name in ("CMakeLists.txt", "Makefile"))
        self.code = cpp_scan.code_only(self.text) if self.is_cpp else ""

    @property
    def room(self):
        parts = self.path.split("/")
        return parts[1] if parts[0] == "src" and len(parts) > 2 else None

    def at(self, rule, line, message, symbol=""):
        return Violation(rule, self.path, line, symbol, message)

    def matches(self, pattern):
        """(line, match) of a pattern in the C++ code, comments and strings left out."""
        for match in re.finditer(pattern, self.code):
            yield self.code.count("\n", 0, match.start()) + 1, match


def spdx(file):
    if not any("SPDX-License-Identifier: Apache-2.0" in line for line in file.lines[:3]):
        yield file.at("spdx", 1, "the first line names no licence")


def sizes(file):
    if not (file.is_cpp or file.is_python):
        return
    if len(file.lines) > FILE_MAX:
        yield file.at("file-length", FILE_MAX + 1, f"{len(file.lines)} lines, at most {FILE_MAX}")
    limit = PYTHON_LINE_MAX if file.is_python else LINE_MAX
    for number, line in enumerate(file.lines, 1):
        if len(line) > limit and "http" not in line:
            yield file.at("line-length", number, f"{len(line)} columns, at most {limit}")


def function_sizes(file):
    found = []
    if file.is_cpp:
        found = cpp_scan.functions(file.text)
    elif file.is_python:
        for node in ast.walk(ast.parse(file.text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = node.end_lineno - node.lineno + 1
                found.append(cpp_scan.Function(node.name, node.lineno, length, 0))
    for function in found:
        if function.length > FUNCTION_MAX:
            yield file.at("function-length", function.line,
                          f"{function.name} has {function.length} lines, at most {FUNCTION_MAX}",
                          function.name)
        if function.nesting > NESTING_MAX:
            yield file.at("nesting", function.line,
                          f"{function.name} nests {function.nesting} deep, at most {NESTING_MAX}",
                          function.name)


def names(file):
    for part in pathlib.PurePosixPath(file.path).with_suffix("").parts:
        bad = FORBIDDEN_WORDS & set(re.split(r"[_\-.]", part.lower()))
        if bad:
            yield file.at("name", 1, f"\"{part}\" says {bad.pop()}, which says nothing", part)
    if file.is_cpp:
        for line, match in file.matches(r"\b(?:class|struct|enum|using|namespace)\s+(\w+)"):
            words = re.findall(r"[A-Z]?[a-z]+", match.group(1))
            if FORBIDDEN_WORDS & {word.lower() for word in words}:
                yield file.at("name", line, f"{match.group(1)} says nothing of what it is for",
                              match.group(1))


def rooms(file):
    """The dependency rule: includes go down, never sideways or up."""
    if not file.is_cpp or file.room is None:
        return
    if file.room not in FLOORS:
        yield file.at("room", 1, f"{file.room} is no room of docs/architecture.md")
        return
    for number, line in enumerate(cpp_scan.without_comments(file.text).splitlines(), 1):
        match = re.match(r'\s*#\s*include\s+"([^"/]+)/', line)
        other = match.group(1) if match else None
        if other is None or other == file.room:
            continue
        if other not in FLOORS:
            yield file.at("room", number, f"{other} is no room of docs/architecture.md")
        elif FLOORS[other] >= FLOORS[file.room]:
            yield file.at("room", number,
                          f"{file.room} (floor {FLOORS[file.room]}) must not include {other} "
                          f"(floor {FLOORS[other]})")


def walls(file):
    """What only one room may see, and what no header may."""
    if not file.is_cpp or not file.path.startswith("src/"):
        return
    for number, line in enumerate(cpp_scan.without_comments(file.text).splitlines(), 1):
        if "#" not in line or "include" not in line:
            continue
        if "boost/beast" in line and file.room != "http":
            yield file.at("wall", number, "Beast is for src/http only")
        if "<boost/asio.hpp>" in line:
            yield file.at("wall", number, "include the parts of Asio that are used")
        if file.suffix == ".h" and HEAVY.search(line):
            yield file.at("wall", number, "a heavy header in a header: include it in the .cc")
    for line, match in file.matches(r"\bco_spawn\b|\bboost::asio::detached\b|\basio::detached\b"):
        if file.room != "async":
            yield file.at("wall", line, f"{match.group(0)} is for src/async only: use a TaskGroup")


# Time and chance come in as objects, so that a scenario can be replayed.
_WORLD = re.compile(r"\b(?:steady_clock|system_clock|high_resolution_clock)::now\s*\("
                    r"|\bthis_thread::sleep_|\brandom_device\b|\bstd::rand\b|(?<![\w:.>])s?rand\s*\("
                    r"|::usleep\s*\(|::nanosleep\s*\(|(?<![\w])::sleep\s*\(|::clock_gettime\s*\(")


def world(file):
    if not file.is_cpp or not file.path.startswith("src/") or file.is_test:
        return
    for line, match in file.matches(_WORLD):
        call = match.group(0).strip("( ")
        yield file.at("world", line, f"{call} outside of the clock and the wiring")


# GCC's older coroutines destroy temporaries of a larger expression twice; and so reads better.
def awaits(file):
    if not file.is_cpp or file.is_test:
        return
    for line, match in file.matches(r"(\S+)\s+co_await\b|([(,!&|<>+])co_await\b"):
        before = match.group(1) or match.group(2)
        if re.search(r"(^|[^=!<>])=$|[;{}:)]$|^(co_return|else|do)$", before):
            continue
        yield file.at("co-await", line, "co_await stands alone: a statement, an initialiser, or "
                                        "after co_return")


def room_pages(root):
    for folder in sorted((root / "src").glob("*/")) if (root / "src").is_dir() else []:
        if folder.is_dir() and any(folder.glob("*.h")) and not (folder / "README.md").exists():
            yield Violation("room-page", f"src/{folder.name}/README.md", 1, "",
                            "a room says what it is for in its README.md")


FILE_RULES = (spdx, sizes, function_sizes, names, rooms, walls, world, awaits)


def source_files(root):
    for top in FOLDERS:
        for path in sorted((root / top).rglob("*")):
            inner = path.relative_to(root).parts
            if path.is_file() and not path.is_symlink() and not SKIPPED_FOLDERS & set(inner):
                yield path
    for name in ("CMakeLists.txt", "Makefile"):
        if (root / name).exists():
            yield root / name


def check(root):
    """Every violation under root, exceptions not yet taken away."""
    found = list(room_pages(root))
    for path in source_files(root):
        if path.suffix in (".md", ".txt", ".png", ".svg", ".json", ".yaml", ".yml", ".html",
                           ".css") and path.name != "CMakeLists.txt":
            continue
        file = File(root, path)
        if not file.is_source:
            continue
        for rule in FILE_RULES:
            found.extend(rule(file))
    return found


def read_exceptions(text):
    """(rule, path, symbol or "") -> reason. A line: RULE PATH[:SYMBOL]  REASON."""
    table = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = line.split(None, 2)
        if len(parts) < 3:
            raise SystemExit(f"exceptions.txt:{number}: write RULE PATH[:SYMBOL] REASON")
        path, _, symbol = parts[1].partition(":")
        table[(parts[0], path, symbol)] = parts[2]
    return table


def report(root, exceptions):
    """The lines to print: violations without an exception, and exceptions without a violation."""
    used, lines = set(), []
    for violation in check(root):
        keys = [(violation.rule, violation.path, violation.symbol),
                (violation.rule, violation.path, "")]
        excused = [key for key in keys if key in exceptions]
        used.update(excused)
        if not excused:
            lines.append(str(violation))
    for rule, path, symbol in exceptions.keys() - used:
        lines.append(f"tests/style/exceptions.txt: {rule} {path}:{symbol} is paid: take it out")
    return lines


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else __file__).resolve()
    if root.is_file():
        root = root.parents[2]
    listed = root / "tests/style/exceptions.txt"
    exceptions = read_exceptions(listed.read_text()) if listed.exists() else {}
    lines = report(root, exceptions)
    for line in lines:
        print(line)
    print(f"style: {len(lines)} violations, {len(exceptions)} exceptions")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
