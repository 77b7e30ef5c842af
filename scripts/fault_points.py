# SPDX-License-Identifier: Apache-2.0
"""docs/fault-points.md, from src/base/fault_points.def; and the points that no code passes."""
import re

SOURCE = "src/base/fault_points.def"
POINT = re.compile(r'^AETHER_FAULT_POINT\((\w+), "([\w.-]+)", "([^"]+)"\)$', re.MULTILINE)
HEAD = f"""<!-- Made by scripts/generate-docs: change {SOURCE} instead. -->
# Fault points

For tests of what a crash leaves: `AETHER_FAULT=POINT:N:ACTION` in the environment of Aether acts when a point is
passed for the N-th time, counted from 1; several are separated by commas. `kill` ends the process at once (SIGKILL),
`stop` halts it (SIGSTOP), `eio` has the step after it fail with an input/output error. Where the store itself is
concerned, and going on could lose what was promised, such an error ends the process.

Without the variable a point costs one read of memory.
"""


def page(root):
    points = POINT.findall((root / SOURCE).read_text())
    code = "\n".join(path.read_text() for path in sorted((root / "src").rglob("*.cc"))
                     if not path.name.endswith("_test.cc"))
    used = set(re.findall(r"\bPoint::(\w+)", code))
    mistakes = [f"{SOURCE}: {text} is passed nowhere" for name, text, _ in points if name not in used]
    rooms = {}
    for _, text, meaning in points:
        rooms.setdefault(text.split(".")[0], []).append(f"| `{text}` | {meaning} |")
    parts = [HEAD]
    for room, rows in rooms.items():
        parts.append("\n".join([f"\n## {room}\n", "| point | is passed |", "|---|---|", *rows]) + "\n")
    return "".join(parts), mistakes
