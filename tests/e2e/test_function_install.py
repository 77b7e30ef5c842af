# SPDX-License-Identifier: Apache-2.0
"""An installed tree works by itself: it finds the libraries that it gives to handlers, and needs no source folder."""

import json
import shutil
import subprocess

import pytest

import handlers
from aether import BINARY, PATIENCE, eventually, free_port
from test_function_languages import ask, warm

BUILD = BINARY.parent.parent
COPIES = 3


@pytest.fixture
def installed(tmp_path):
    """The root of a tree, as `make install PREFIX=...` leaves it."""
    if not (BUILD / "cmake_install.cmake").exists():
        pytest.skip("the program under test lies in no build folder")
    prefix = tmp_path / "usr"
    subprocess.run(["cmake", "--install", BUILD, "--prefix", prefix, "--component", "aether"], check=True,
                   capture_output=True, timeout=PATIENCE)
    return prefix


def function_of(start, prefix, folder):
    """How a function in Python stands whose Aether was installed, and the numbers that its copies draw."""
    path = handlers.build("python", folder / "handler")
    one = handlers.function(path, free_port(), min_instances=COPIES, max_instances=COPIES)
    # A busy machine may need longer than the default's 15 ms for a copy.
    aether = start({"orchestrator": {"restore_timeout_ms": 100}, "functions": [one],
                    "observability": {"metrics_port": "none"}}, name=prefix / "bin" / "aether", env={"PYTHONPATH": ""})
    found = eventually(lambda: len(warm(now := aether.function("fn"))) == COPIES and now, "all copies serve")
    return found, [json.loads(ask(each["port"])[1])["random"] for each in warm(found)]


def test_an_installed_tree_has_what_it_needs_and_nothing_of_the_tests(installed):
    for name in ("aether", "aeterna", "aetheris"):
        done = subprocess.run([installed / "bin" / name, "--version"], capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0 and done.stdout, done
    files = [str(file.relative_to(installed)) for file in installed.rglob("*") if file.is_file()]
    assert "share/aether/prometheus/alerts.yaml" in files
    assert any(file.startswith("share/aether/sdk/python/aetherless") for file in files), files
    assert any(file.startswith("share/aether/sdk/node/aetherless") for file in files), files
    assert "share/aether/sdk/node/aetheris/index.js" in files
    assert not [file for file in files if "test" in file or file.endswith(".pyc")], files


def test_copies_made_by_an_installed_aether_draw_numbers_of_their_own(installed, start, tmp_path):
    found, drawn = function_of(start, installed, tmp_path)
    assert found["launch"] == "clone", found
    assert not any("no reseeding hook" in note for note in found["notes"]), found["notes"]
    assert len(set(drawn)) == COPIES, drawn


def test_without_its_libraries_it_says_so(installed, start, tmp_path):
    shutil.rmtree(installed / "share" / "aether" / "sdk")
    found, drawn = function_of(start, installed, tmp_path)
    assert any("no reseeding hook" in note for note in found["notes"]), found["notes"]
    assert len(set(drawn)) == 1, drawn
