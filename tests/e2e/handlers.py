# SPDX-License-Identifier: Apache-2.0
"""Handlers of functions in several languages (tests/handlers), made runnable with what this machine has."""

import os
import pathlib
import shutil
import subprocess

import pytest

SOURCES = pathlib.Path(__file__).resolve().parent.parent / "handlers"
SDK_C = SOURCES.parents[1] / "sdk" / "c"
# Compiling is slow on a busy machine, Go's standard library the first time above all.
COMPILE_PATIENCE = 300

# Name: (file, what it takes to make and to run it). The tests that take a name from here skip without those tools.
HANDLERS = {
    "python": ("python_http.py", ()),
    "threads": ("python_threads.py", ()),
    "asyncio": ("python_asyncio.py", ()),
    "limits": ("limits.py", ()),
    "streams": ("streams.py", ()),
    "ring_python": ("ring_python.py", ()),
    "ring_asyncio": ("ring_asyncio.py", ()),
    "ring_node": ("ring_node.js", ("node",)),
    "ring_cpp": ("ring_cpp.cc", ("clang++-19|g++|clang++",)),
    "node": ("node_http.js", ("node",)),
    "java": ("JavaHandler.java", ("java", "javac")),
    "cpp": ("cpp_handler.cc", ("clang++-19|g++|clang++",)),
    "rust": ("rust_handler.rs", ("rustc",)),
    "go": ("go_handler.go", ("go",)),
}
LANGUAGES = ("python", "threads", "asyncio", "node", "java", "cpp", "rust", "go")


def tool(names):
    """The first one of "a|b" that is installed; None without any."""
    return next(filter(None, map(shutil.which, names.split("|"))), None)


def missing(name):
    """Why this handler cannot be made here; None if it can."""
    lacking = [one for one in HANDLERS[name][1] if tool(one) is None]
    return f"needs {' and '.join(lacking)}, not installed everywhere" if lacking else None


def build(name, folder):
    """The path of a runnable handler below `folder`, made anew. Skips the test where that cannot be done."""
    if why := missing(name):
        pytest.skip(why)
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    source = SOURCES / HANDLERS[name][0]
    made = folder / source.stem
    if source.suffix in (".py", ".js"):
        made = folder / source.name
        shutil.copy(source, made)
        return made
    if source.suffix == ".java":
        _compile([tool("javac"), "-d", folder, source])
        made.with_suffix(".sh").write_text(f'#!/bin/sh\nexec java -XX:+UseSerialGC -cp "{folder}" {source.stem}\n')
        made.with_suffix(".sh").chmod(0o755)
        return made.with_suffix(".sh")
    if source.suffix == ".cc":
        _compile([tool(HANDLERS[name][1][0]), "-std=c++17", "-O1", "-pthread", "-I", SDK_C, "-o", made,
                  source])
    elif source.suffix == ".rs":
        _compile([tool("rustc"), "--edition", "2021", "-O", "-o", made, source])
    else:
        _compile([tool("go"), "build", "-o", made, source], GOPROXY="off", CGO_ENABLED="0", GOFLAGS="")
    return made


def _compile(command, **environment):
    done = subprocess.run([str(word) for word in command], env={**os.environ, **environment}, capture_output=True,
                          text=True, timeout=COMPILE_PATIENCE)
    assert done.returncode == 0, f"{command[0]}: {done.stderr}"


def function(path, port, name="fn", **more):
    """A function of a configuration; `more` are its other keys."""
    return {"id": name, "memory_limit_mb": 512, "trigger_port": port, "handler_path": str(path), **more}
