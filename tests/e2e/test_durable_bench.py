# SPDX-License-Identifier: Apache-2.0
"""The benchmark of durable steps: its judge counts, and Aether's part of it runs, without any peer."""

import json
import os
import subprocess
import sys
from pathlib import Path

from aether import BINARY

BENCH = Path(__file__).parents[2] / "bench"
sys.path.insert(0, str(BENCH))

from durable_judge import Judge  # noqa: E402


def test_the_judge_of_the_benchmark_counts_what_is_done_twice():
    with Judge() as judge:
        for key in ("a/1", "a/2", "a/1"):
            assert judge.ask(f"+ {key}") == "ok\n"
        told = judge.told()
        assert (told["effects"], told["twice"], len(told["times"])) == (2, 1, 2)
        assert judge.seen("a/2") and not judge.seen("a/3")
        judge.forget()
        assert judge.effects() == 0


def test_the_benchmark_of_durable_steps_finds_each_effect_of_aether_once(tmp_path):
    command = [sys.executable, BENCH / "durable.py", "--quick", "--no-recovery", "--only", "Aether (Node)"]
    env = {**os.environ, "AETHER_BIN": str(BINARY), "AETHER_BENCH_DIR": str(tmp_path)}
    done = subprocess.run([*command, "--json", tmp_path / "figures.json"], env=env, capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    cells = json.loads((tmp_path / "figures.json").read_text())["subjects"]["Aether (Node)"]
    for at_once in ("1", "16", "64"):
        one = cells[at_once]
        assert (one["effects"], one["twice"], one["missing"]) == (one["workflows"] * 10, 0, 0), one
        assert one["workflows"] >= int(at_once)
