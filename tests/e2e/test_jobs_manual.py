# SPDX-License-Identifier: Apache-2.0
"""docs/jobs.md, typed as it stands there."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from aether import BINARY, PATIENCE, free_port

PAGE = (Path(__file__).parents[2] / "docs" / "jobs.md").read_text()
BLOCK = re.compile(r"^```(yaml|python|js|console)\n(.*?)^```", re.S | re.M)
CHAPTERS = ["In five minutes", "Steering", "Tools and agents", "Agents with code", "Agents in Node"]

# What must come of the lines that begin so.
TOLD = {
    "aether jobs list": ["parked", "release"],
    "aether jobs show": ["waits for human at ok", "Version 7 is out."],
    "aether jobs submit": ["completed", "Version 7 is out."],
    "aether trace": ["release", "announce", "approved"],
    "grep -c": ["1\n"],
    "aether replay": ["0 calls"],
    "aether verify": ["✓"],
    "curl -sfN": ["event: run.opened", "event: signal.received", "event: run.closed"],
    "curl -sf localhost:8480/v1/jobs/$ID | grep": ["5 received"],
    "curl -sf 'localhost:8480/v1/jobs?status": ['"next":null'],
    "aether -c clerk.yaml jobs submit --agent": ["completed", "3"],
    "aether -c clerk.yaml jobs submit --goal": ["completed", "goodbye"],
}


def blocks_of(chapter):
    text = PAGE.split(f"\n## {chapter}\n")[1].split("\n## ")[0]
    return BLOCK.findall(text)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_what_the_manual_shows_is_what_happens(tmp_path, chapter):
    port = str(free_port())
    runtime = subprocess.check_output(["mktemp", "-d", "/tmp/ae.XXXXXX"], text=True).strip()
    env = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("AETHER", "LISTEN_"))},
        "AETHER_RUNTIME_DIR": runtime,
        "PATH": f"{BINARY.parent}:{os.environ['PATH']}",
    }
    script, expected = ["set -e"], []
    for kind, text in blocks_of(chapter):
        if kind != "console":
            (tmp_path / text.split("\n")[0].lstrip("#/ ")).write_text(text.replace("8480", port))
            continue
        for line in re.findall(r"^\$ (.*(?:\n    .*)*)$", text, re.M):
            wanted = next((words for begin, words in TOLD.items() if line.startswith(begin)), None)
            if wanted:
                line = f"({line}) > out.{len(expected)} 2>&1 || (cat out.{len(expected)}; false)"
                expected.append((line, wanted))
            if line == "aether up" and script[-1].startswith("kill -9"):
                line = "until aether up; do sleep 0.05; done"  # who was killed is gone a moment later
            script.append(line.replace("8480", port))
            if line.startswith("ID=$(aether jobs submit"):
                script.append("until aether jobs show $ID | grep -q parked; do sleep 0.05; done")  # as people are slow
    assert len(script) > 3 and expected
    try:
        done = subprocess.run(
            ["bash", "-c", "\n".join(script)], env=env, cwd=tmp_path, capture_output=True, text=True,
            timeout=PATIENCE, check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        for at, (line, wanted) in enumerate(expected):
            told = (tmp_path / f"out.{at}").read_text()
            assert [word for word in wanted if word not in told] == [], f"{line} told: {told}"
    finally:
        for file in tmp_path.glob("*.yaml"):
            if file.name in ("aether.yaml", "http.yaml", "clerk.yaml", "refunds.yaml", "node.yaml"):
                command = [BINARY, "-c", str(file), "down"]
                subprocess.run(command, env=env, capture_output=True, timeout=PATIENCE, check=False)
        shutil.rmtree(runtime, ignore_errors=True)
