# SPDX-License-Identifier: Apache-2.0
"""What bench/starts.py measures, and how good it is to be."""

LANGUAGES = {"python": "Python", "node": "Node", "java": "Java", "cpp": "C++"}
# Name: by which tier it is served.
WAYS = {"parked": "parked", "parked again": "parked", "clone": "clone", "clone unwarmed": "clone", "cold": "cold"}
# (median, p99) in milliseconds, zero instances.
GOALS = {("parked", None): (0.3, 1), ("clone", "python"): (2, 6), ("clone", "node"): (3, 8), ("clone", "java"): (5, 10)}


def goal(way, handler):
    return GOALS.get((WAYS[way], None)) or GOALS.get((way, handler))
