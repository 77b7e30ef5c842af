# SPDX-License-Identifier: Apache-2.0
"""The quickstart, as `make run` runs it, with fewer swaps."""

import os
import subprocess

RUN = os.path.join(os.path.dirname(__file__), "..", "..", "examples", "quickstart", "run")


def test_the_quickstart_loses_nobody_and_forgets_nothing():
    env = dict(os.environ, BIN=os.environ["AETHER_BIN"], SWAPS="2")
    done = subprocess.run([RUN], env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nobody was lost, nothing was forgotten" in done.stdout
