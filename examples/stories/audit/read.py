# SPDX-License-Identifier: Apache-2.0
"""python3 read.py BUNDLE: what happened, for the eyes of an auditor. It proves nothing; `aether verify` does."""

import base64
import datetime
import json
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    lines = file.read().split("\n")
events = int(lines[3].removeprefix("events "))
blobs = {}
for line in lines[5 + events : 5 + events + int(lines[4 + events].removeprefix("blobs "))]:
    address, *rest = line.split(" ")
    blobs[address] = json.loads(base64.b64decode(rest[1])) if len(rest) == 2 else "(erased)"
for line in lines[4 : 4 + events]:
    event = json.loads(line)
    when = datetime.datetime.fromtimestamp(event["at"] / 1000, datetime.timezone.utc)
    told = {}
    for name, value in event["body"].items():
        if name in ("path", "tool", "end", "outcome") or name.endswith("_blob"):
            told[name.removesuffix("_blob")] = blobs.get(value, value) if name.endswith("_blob") else value
    print(f"{when:%Y-%m-%d %H:%M} {event['kind']:16} {event.get('actor', '')} {json.dumps(told)}")
