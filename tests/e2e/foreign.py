# SPDX-License-Identifier: Apache-2.0
"""The verifier of tests/evidence, which is Go's libraries and nothing of Aether's."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from aether import PATIENCE

SOURCE = Path(__file__).parents[1] / "evidence"
LIBRARIES = Path("/usr/share/gocode")  # Debian's golang-golang-x-mod-dev


def built(folder):
    """The program, compiled into that folder."""
    go = shutil.which("go") or "/usr/local/go/bin/go"
    if not Path(go).exists() or not (LIBRARIES / "src/golang.org/x/mod/sumdb").exists():
        pytest.skip("Go or golang.org/x/mod is not installed (scripts/install-deps --test)")
    # As Debian has the library: found by its path, without a module and without a network.
    # The compiled standard library stays in the user's cache: it is most of the work.
    keep = {name: os.environ[name] for name in ("HOME", "GOCACHE") if name in os.environ}
    env = {"PATH": "/usr/bin:/bin", "HOME": str(folder), **keep, "GO111MODULE": "off", "GOPATH": str(LIBRARIES)}
    command = [go, "build", "-gcflags=all=-N -l", "-o", folder / "evidence", "."]
    subprocess.run(command, cwd=SOURCE, env=env, check=True)
    return folder / "evidence"


def judged(program, *files, key=None, old=None):
    """{file: (is it good, what was said)}"""
    words = [*(["-key", key] if key else []), *(["-old", old] if old else [])]
    done = subprocess.run([program, *words, *files], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode in (0, 1), done.stderr
    told = {}
    for line in done.stdout.splitlines():
        verdict, _, rest = line.partition(" ")
        file, _, what = rest.partition(": ")
        told[Path(file)] = (verdict == "ok", what)
    assert set(told) == set(map(Path, files)), done.stdout
    return told
