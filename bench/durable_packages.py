# SPDX-License-Identifier: Apache-2.0
"""The peers' packages, fetched into a folder outside of the repository, in the versions that were measured."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

NPM = ("@restatedev/restate-server@1.7.12", "@restatedev/restate-sdk@1.17.2", "@dbos-inc/dbos-sdk@5.3.0")
PYPI = ("restate-sdk==1.2.0", "hypercorn==0.18.0", "dbos==3.4.0")
PATIENCE = 600


def folder():
    given = os.environ.get("AETHER_BENCH_PEERS")
    return Path(given) if given else Path.home() / ".cache" / "aether-bench"


def attempt(*commands):
    """Why it could not be done, or nothing."""
    for command in commands:
        try:
            done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=PATIENCE)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{command[0]}: {error}"
        if done.returncode != 0:
            return f"{command[0]} failed: {(done.stderr or done.stdout).strip().splitlines()[-1:]}"
    return None


def once(mark, *commands):
    """As `attempt`, unless it was done before with the same words."""
    if mark.exists() and mark.read_text() == repr(commands):
        return None
    failure = attempt(*commands)
    if not failure:
        mark.write_text(repr(commands))
    return failure


def install(languages):
    """(the folder, {language: why its peers are missing}). No package runs a program while it is installed."""
    place, missing = folder(), {}
    place.mkdir(parents=True, exist_ok=True)
    npm = [shutil.which("npm") or "npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", place]
    if languages:  # Restate's server is one of npm's
        failure = once(place / "npm.done", [*npm, *NPM])
        missing = dict.fromkeys(languages, failure) if failure else {}
    if "python" in languages and not missing:
        python = place / "python"
        failure = once(place / "pypi.done", [sys.executable, "-m", "venv", "--clear", python],
                       [python / "bin" / "pip", "install", "-q", *PYPI])  # fmt: skip
        missing = {"python": failure} if failure else {}
    return place, missing


def versions(place):
    found = {}
    for package in NPM:
        name = package.rsplit("@", 1)[0]
        described = place / "node_modules" / name / "package.json"
        if described.exists():
            found[name] = json.loads(described.read_text())["version"]
    found.update(package.split("==") for package in PYPI if (place / "pypi.done").exists())
    return found
