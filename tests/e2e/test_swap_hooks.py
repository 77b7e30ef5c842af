# SPDX-License-Identifier: Apache-2.0
"""Hooks around a swap: what they are given, what their failure does, and that they cannot hang it."""

import json

import pytest

from aether import PYTHON, eventually
from swaps import Rig, processes_of


def hook(folder, text, name="check", **more):
    path = folder / f"{name}.py"
    path.write_text(text)
    return {"name": name, "command": [PYTHON, str(path)], **more}


BAD_HOOKS = {
    "fails": ("import sys; sys.exit('no space on disk')", {}, ["check", "no space on disk"]),
    "dies": ("import os; os.kill(os.getpid(), 11)", {}, ["check", "SIGSEGV"]),
    "hangs": (
        f"import subprocess, time\n"
        f"subprocess.Popen(['{PYTHON}', '-c', 'import time; time.sleep(600)', __file__], start_new_session=True)\n"
        f"print('waiting for the database', flush=True)\ntime.sleep(600)",
        {"timeout": "700ms"},
        ["check", "timeout", "waiting for the database"],
    ),
    "prints_without_end": ("while True: print('x' * 100000)", {"timeout": "700ms"}, ["check", "timeout"]),
    "prints_10_MB_and_fails": (
        "import sys\nfor i in range(100): print('y' * 100000)\nprint('and out'); sys.exit(1)", {}, ["check", "and out"],
    ),
}


@pytest.mark.edge("B13")
@pytest.mark.parametrize("how", BAD_HOOKS)
def test_a_preflight_hook_that(tmp_path, how):
    text, more, words = BAD_HOOKS[how]
    with Rig(tmp_path) as rig:
        rig.change(orchestration={"pre_flight": [hook(tmp_path, text, **more)]})
        swap = rig.refuses_and_serves_on(*words)
        assert swap["pid"] is None, "the new revision was not even started"
        assert len(swap["why"]) < 20_000, "a reason is something to read"
        eventually(lambda: len(processes_of(tmp_path)) == 1, "nothing of the hook lives on")


def test_a_preflight_hook_that_does_not_exist_is_named(tmp_path):
    with Rig(tmp_path) as rig:
        rig.change(orchestration={"pre_flight": [{"name": "check", "command": ["/nowhere/at-all"]}]})
        rig.refuses_and_serves_on("check", "/nowhere/at-all")


def test_a_hook_that_may_fail_is_only_told(tmp_path):
    may_fail = {"block_on_fail": False}
    with Rig(tmp_path) as rig:
        rig.change(orchestration={"pre_flight": [hook(tmp_path, "raise SystemExit(1)", "lint", **may_fail)]})
        swap = rig.aether.reload()
        assert swap["verdict"] == "succeeded", swap
        assert "lint" in rig.aether.text()
        assert rig.pid() == swap["pid"]


SEES = """
import json, os, sys
files = []
for number in os.listdir("/proc/self/fd"):
    if int(number) > 2 and os.path.exists(f"/proc/self/fd/{number}"):
        files.append(os.readlink(f"/proc/self/fd/{number}"))
saw = {"environment": dict(os.environ), "folder": os.getcwd(), "files": files}
with open(sys.argv[1], "w") as out:
    json.dump(saw, out)
"""


@pytest.mark.edge("B13")
def test_hooks_run_with_the_new_environment_and_none_of_the_files(tmp_path):
    seen = tmp_path / "seen.json"
    check = hook(tmp_path, SEES)
    check["command"].append(str(seen))
    with Rig(tmp_path) as rig:
        rig.change(service={"env": {"FLAVOUR": "new"}, "workdir": str(tmp_path)},
                   orchestration={"pre_flight": [check]})
        swap = rig.aether.reload()
        assert swap["verdict"] == "succeeded", swap
        saw = json.loads(seen.read_text())
        assert saw["environment"]["FLAVOUR"] == "new"
        assert saw["environment"]["AETHER_REVISION"] == "2"
        assert saw["folder"] == str(tmp_path)
        assert not [name for name in saw["files"] if "socket" in name or "anon_inode" in name], saw["files"]
        assert "LISTEN_FDS" not in saw["environment"]


def test_the_hooks_run_in_their_order_and_the_first_failure_ends_them(tmp_path):
    order = tmp_path / "order"
    def note(name, code=0):
        return hook(tmp_path, f"open({str(order)!r}, 'a').write('{name} '); raise SystemExit({code})", name)
    with Rig(tmp_path) as rig:
        rig.change(orchestration={"pre_flight": [note("one"), note("two", 1), note("three")]})
        rig.refuses_and_serves_on("two")
        assert order.read_text() == "one two "


@pytest.mark.parametrize("outcome", ["on_success", "on_failure"])
def test_post_process_hooks_run_for_the_outcome_they_are_for(tmp_path, outcome):
    notes = {name: tmp_path / name for name in ("on_success", "on_failure")}
    hooks = {name: [hook(tmp_path, f"open({str(path)!r}, 'a').write('ran\\n')", name)]
             for name, path in notes.items()}
    with Rig(tmp_path) as rig:
        rig.change(orchestration={"post_process": hooks})
        if outcome == "on_failure":
            rig.script.write_text("raise SystemExit(1)")
        rig.aether.reload()
        eventually(lambda: notes[outcome].exists() and notes[outcome].read_text() == "ran\n", "the hook ran")
        rig.until("idle")
        other = {"on_success": "on_failure", "on_failure": "on_success"}[outcome]
        assert not notes[other].exists()


def test_a_post_process_hook_that_hangs_holds_up_nothing(tmp_path):
    with Rig(tmp_path) as rig:
        hangs = hook(tmp_path, "import time; time.sleep(600)", "report", timeout="1s")
        rig.change(orchestration={"post_process": {"on_success": [hangs]}})
        assert rig.aether.reload()["verdict"] == "succeeded"
        assert rig.aether.reload()["verdict"] == "succeeded"
        rig.mend()
        eventually(lambda: len(processes_of(tmp_path)) == 1, "the hooks are ended by their timeouts")
