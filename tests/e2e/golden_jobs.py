# SPDX-License-Identifier: Apache-2.0
"""Writes a golden store of jobs: what each kind of run leaves, as this release records it.

A release that changes what is recorded writes another one, once, and keeps those before it:

    AETHER_BIN=build/dev/bin/aether python3 tests/e2e/golden_jobs.py tests/golden/jobs-2
"""

import json
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

from jobs import Jobs, config, http_node
from judge import Judge

AGENT = {
    "name": "clerk",
    "instructions": "Use the tools.",
    "tools": [{"name": "echo", "tool": "echo", "with": {"stdin": {"said": "${args.text}"}}}],
}
TOOLS = {"echo": {"type": "process", "command": ["cat"], "policy": "read"}}
APPROVAL = {"id": "ok", "type": "approval", "with": {"message": "Go on?"}}


def graph_of_all(judge):
    call = http_node(judge, "n", "/echo/inner", policy="keyed", body="${input}")
    inner = {"nodes": [call], "output": "${n.body.got}"}
    again = {"attempts": 2, "backoff": "1ms"}
    says = 'call echo {"text": "x"}\nsay {last}'
    nodes = [
        {"id": "value", "type": "value", "with": {"text": "ä ${input.who}", "number": 1.5}},
        http_node(judge, "large", "/echo/large", after=["value"], body={"text": "z" * 9000}),
        {"id": "if", "type": "condition", "if": "${input.who} == \"Ada\"", "then": ["yes"], "else": ["no"]},
        {"id": "yes", "type": "llm", "with": {"prompt": "say hello ${input.who}"}},
        {"id": "no", "type": "value", "with": 0},
        {"id": "pause", "type": "wait", "after": ["yes", "no"], "with": {"for": "5ms"}},
        {"id": "paid", "type": "wait", "after": ["pause"], "with": {"signal": "paid"}},
        {**APPROVAL, "after": ["paid"]},
        {"id": "child", "type": "workflow", "after": ["ok"], "graph": inner, "with": {"deep": [1, None]}},
        {"id": "clerk", "type": "agent", "agent": "clerk", "after": ["child"], "with": says},
        http_node(judge, "busy", "/busy/1/golden", after=["clerk"], policy="read", retry=again),
    ]
    output = {"value": "${value}", "said": "${yes.content}", "child": "${child}", "clerk": "${clerk.text}"}
    return {"name": "all", "nodes": nodes, "output": output}


def saga(judge):
    undo = {"tool": "http", "with": {"method": "POST", "url": judge.url("/echo/undo")}}
    return {"nodes": [http_node(judge, "do", "/echo/do", compensate=undo), http_node(judge, "no", "/no", after=["do"])]}


def make_runs(house, judge):
    runs = {}
    runs["all"] = house.submit(graph_of_all(judge), input={"who": "Ada"}, key="all")
    house.change(runs["all"], "signals", name="paid", payload={"sum": 5})
    house.asks(runs["all"])
    house.change(runs["all"], "approvals", decision="approve", form={"note": "yes"})
    house.ended(runs["all"])
    runs["forked"] = house.post(runs["all"], "fork", {"step": "child"})[2]["id"]
    runs["saga"] = house.submit(saga(judge))
    runs["agent"] = house.submit(agent="clerk", input='call echo {"text": "alone"}\nsay {last}')
    runs["goal"] = house.submit(goal="wait 1ms then say done")
    runs["cancelled"] = house.submit([APPROVAL])
    house.change(runs["cancelled"], "control", action="cancel", reason="enough")
    for name in ("forked", "saga", "agent", "goal", "cancelled"):
        house.ended(runs[name])
    runs["budget"] = house.submit([http_node(judge, "n", "/echo/budget")], budget={"calls": 0})
    house.ended(runs["budget"])
    # These go on in whatever release reads them.
    after = {"id": "after", "type": "value", "after": ["ok"], "with": {"by": "${ok.decision}"}}
    runs["approval"] = house.submit([APPROVAL, after])
    runs["signal"] = house.submit([{"id": "w", "type": "wait", "with": {"signal": "go"}}])
    runs["doubt"] = house.submit([http_node(judge, "n", "/hold/doubt", timeout="1s")])
    for name in ("approval", "signal", "doubt"):
        house.wait_status(runs[name], "parked")
    runs["paused"] = house.submit([{"id": "v", "type": "value", "with": 1}], delay="1s")
    house.change(runs["paused"], "control", action="pause")
    return runs


def write(folder):
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place, Judge() as judge:
        house = Jobs(Path(place), config(agents=[AGENT], tools=TOOLS))
        with house:
            runs = make_runs(house, judge)
            told = {}
            for name, run in runs.items():
                job = house.job(run)
                told[name] = {"id": run, **{key: job[key] for key in ("status", "output", "error", "sequence")}}
            assert house.halt() == 0
            house.verified()
        (folder / "runs.json").write_text(json.dumps(told, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
        with tarfile.open(folder / "store.tar.xz", "w:xz") as archive:
            for name in ("jobs.db", "jobs.db.key", "jobs.db.key.pub"):
                archive.add(Path(place) / name, name, filter=nobodys)
        shutil.copymode(folder / "runs.json", folder / "store.tar.xz")


def nobodys(entry):
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    write(Path(sys.argv[1]))
