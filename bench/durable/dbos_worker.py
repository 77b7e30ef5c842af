# SPDX-License-Identifier: Apache-2.0
"""The steps as a workflow of DBOS, which lives in the program that asks for it. What it is told: see load.js."""

import json
import os
import sys
import threading
import time

from dbos import DBOS, SetWorkflowID
from judged import steps

DBOS(config={
    "name": "bench", "system_database_url": os.environ["DATABASE"], "sys_db_pool_size": int(os.environ["POOL"]),
    "log_level": "ERROR", "application_version": "1", "enable_otlp": False,
})  # fmt: skip


@DBOS.workflow(name="work")
def work(given):
    return steps(given, lambda name, code: DBOS.run_step({"name": name}, code))


def begin(given):
    with SetWorkflowID(given["id"]):
        return DBOS.start_workflow(work, given)


def load(told):
    took, began, numbers = [], time.monotonic(), iter(range(1 << 30))

    def client():
        while time.monotonic() - began < told["seconds"]:
            asked = time.monotonic()
            begin({**told["given"], "id": f"{told['prefix']}{next(numbers)}"}).get_result()
            took.append(round((time.monotonic() - asked) * 1e6))

    clients = [threading.Thread(target=client) for _ in range(told["at_once"])]
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    return {"ended": len(took), "seconds": time.monotonic() - began, "took_us": took}


def submit(told):
    for number in range(told["runs"]):
        begin({**told["given"], "id": f"{told['prefix']}{number}"})
    return {"submitted": told["runs"]}


DBOS.launch()
print("ready", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    print(json.dumps({"load": load, "submit": submit}[asked["do"]](asked)), flush=True)
os._exit(0)
