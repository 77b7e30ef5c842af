# SPDX-License-Identifier: Apache-2.0
"""docs/stories.md: each story's script is run as the page says, and tells what the page says."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from aether import BINARY, PATIENCE

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "stories.md").read_text()
STORIES = re.findall(r"^```console\n\$ (examples/stories/(\w+)/run)\n(.*?)^```", PAGE, re.S | re.M)
NO_NETWORK_OF_ITS_OWN = 77


def pattern_of(line):
    return ".*".join(map(re.escape, line.split("…")))


def test_every_story_has_its_chapter():
    told = {path.parent.name for path in (ROOT / "examples" / "stories").glob("*/run")}
    assert told == {name for _, name, _ in STORIES} and len(told) == 3


@pytest.mark.parametrize("command,name,shown", STORIES, ids=[name for _, name, _ in STORIES])
def test_a_story_tells_what_its_page_shows(command, name, shown):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("AETHER", "LISTEN_"))}
    env |= {"BIN": str(BINARY)}
    done = subprocess.run([ROOT / command], env=env, capture_output=True, text=True, timeout=4 * PATIENCE, check=False)
    if done.returncode == NO_NETWORK_OF_ITS_OWN:
        pytest.skip("the story needs a network namespace of its own: root, or user namespaces")
    assert done.returncode == 0, done.stdout + done.stderr
    told = iter(done.stdout.split("\n"))
    for line in shown.splitlines():
        found = any(re.fullmatch(pattern_of(line), one) for one in told)
        assert found, f"'{line}' does not come, or not in its place:\n{done.stdout}\n{done.stderr}"
