# SPDX-License-Identifier: Apache-2.0
"""What bench/starts.py measures, and how good it is to be."""

import os
import subprocess
from pathlib import Path

LANGUAGES = {"python": "Python", "node": "Node", "java": "Java", "cpp": "C++"}
# Name: by which tier it is served.
WAYS = {"parked": "parked", "parked again": "parked", "clone": "clone", "clone unwarmed": "clone", "image": "image",
        "cold": "cold"}
# Handlers of which images are measured; those of Java take CRIU half a second and more.
IMAGED = {"python", "node", "cpp"}
# (median, p99) in milliseconds, zero instances.
GOALS = {("parked", None): (0.3, 1), ("clone", "python"): (2, 6), ("clone", "node"): (3, 8), ("clone", "java"): (5, 10),
         ("image", "python"): (15, 15)}


def images_work():
    """Whether scripts/install-criu has installed a CRIU that works here."""
    check = [Path(__file__).parents[1] / "scripts" / "install-criu", "--check"]
    return os.geteuid() == 0 and subprocess.run(check, capture_output=True, check=False).returncode == 0


def ways(handler):
    """The ways in which that handler is started here."""
    left_out = set() if handler in IMAGED and images_work() else {"image"}
    return {way: tier for way, tier in WAYS.items() if way not in left_out}


def goal(way, handler):
    return GOALS.get((WAYS[way], None)) or GOALS.get((way, handler))
