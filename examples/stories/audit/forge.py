# SPDX-License-Identifier: Apache-2.0
"""python3 forge.py HOW BUNDLE FORGED: what somebody could try who wants another past."""

import base64
import re
import sys

how, source, target = sys.argv[1:]
with open(source, encoding="utf-8") as file:
    lines = file.read().split("\n")


def smaller(line):
    """A sum that was paid, in one of the values, without a zero."""
    address, salt, content = line.split(" ")
    content = base64.b64decode(content).replace(b'"amount":4200', b'"amount":420')
    return " ".join([address, salt, base64.b64encode(content).decode()])


if how == "sum":
    first = 5 + int(lines[3].removeprefix("events "))  # after the line that says how many there are
    last = first + int(lines[first - 1].removeprefix("blobs "))
    lines[first:last] = [smaller(line) for line in lines[first:last]]
elif how == "who":  # who said yes
    lines = [re.sub(r'"actor":"[^"]*"(.*"kind":"wait.closed")', r'"actor":"uid:4711"\1', line) for line in lines]
elif how == "leave-out":  # the last event never happened
    count = int(lines[3].removeprefix("events "))
    del lines[3 + count]
    lines[3] = f"events {count - 1}"
with open(target, "w", encoding="utf-8") as file:
    file.write("\n".join(lines))
