# SPDX-License-Identifier: Apache-2.0
"""Handlers that are more than one process, or end when they should not; and what hundreds of instances leave behind."""

import os
import pathlib
import re
import subprocess

import pytest

from aether import PYTHON, SANITIZED, eventually, free_port
from test_function_life import HANDLER, config_of, eventually_hello, function, get
from test_function_ready import groups_of

GUNICORN = """\
#!/bin/sh
exec {python} -m gunicorn --chdir {folder} --workers 2 --bind 127.0.0.1:$PORT --log-level error app
"""
APP = """\
import os
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"hello {os.getpid()} of {os.getppid()}".encode()]
"""
# Of a handler that is never ready, but for this one.
FAMILY = """\
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import subprocess, sys, time; "
                          "subprocess.Popen(['sleep', '1000.25']); time.sleep(1000.25)"], start_new_session=True)
"""


def processes(folder):
    """Command lines of what was started from there; those of its children too, whatever they run."""
    found = subprocess.run(["pgrep", "-fa", f"{folder}|sleep 1000.25"], capture_output=True, text=True).stdout
    return [line for line in found.splitlines() if "pgrep" not in line]


def gunicorn(folder, **keys):
    (folder / "app.py").write_text(APP)
    handler = folder / "serve.sh"
    handler.write_text(GUNICORN.format(python=PYTHON, folder=folder))
    handler.chmod(0o755)
    return {"id": "f", "memory_limit_mb": 256, "trigger_port": free_port(), "handler_path": str(handler),
            "ready": "port", **keys}


def test_gunicorn_is_served_from_parked_trees_of_processes(start, tmp_path):
    one = gunicorn(tmp_path, idle_timeout="100ms")
    aether = start(config_of(one))
    told = aether.function()
    assert told["launch"] == "spawn" and any("child processes" in why for why in told["not_cloneable"]), told
    states = lambda: {each["state"] for each in aether.function()["instances"]}
    for _ in range(3):
        eventually(lambda: states() == {"parked"}, "all of it is parked")
        status, body = get(one)
        assert status == 200 and body.startswith("hello"), body
    starts = aether.function()["starts"]
    assert starts["parked"]["count"] == 3 and starts.get("cold", {"failed": 0})["failed"] == 0, starts
    assert aether.stop() == 0
    assert processes(tmp_path) == []


def test_a_handler_that_is_never_ready_is_ended_with_all_that_it_started(start, tmp_path):
    one = function(tmp_path, FAMILY + "time.sleep(1000.25)\n", ready={"when": "port", "timeout": "1s"})
    aether = start(config_of(one))
    assert aether.function()["state"] == "FAILED" and "not-ready" in aether.function()["problem"]
    eventually(lambda: processes(tmp_path / "f.py") == [], f"nothing of it is left: {processes(tmp_path / 'f.py')}")


@pytest.mark.parametrize("launch", ["auto", "spawn"])
def test_an_instance_that_ends_between_requests_is_replaced(start, tmp_path, launch):
    ends = HANDLER.replace("    def do_GET(self):\n", """    def do_GET(self):
        if self.path == "/end":
            import threading
            threading.Timer(0.05, os._exit, [4]).start()
""")
    one = function(tmp_path, ends, launch=launch, max_instances=1, on_restore_failure="cold")
    aether = start(config_of(one, warm_pool_size=1))
    for ended in range(1, 4):
        status, body = get(one, "/end")
        assert status == 200, body
        eventually(lambda: aether.function()["crashes"] == ended, "its end is seen")
        assert not any(str(each["pid"]) == body.split()[1] for each in aether.function()["instances"])
    assert get(one)[0] == 200
    eventually(lambda: aether.function()["requests"]["by_status"] == {"200": 4}, "all four are counted, and no other")


def test_a_handler_that_ends_right_after_it_is_ready_is_told_with_its_code_and_answered_for(start, tmp_path):
    source = HANDLER.replace(
        "HTTPServer((", "server = HTTPServer((").replace(
        ".serve_forever()", "\nimport time\ntime.sleep(0.05)\nraise SystemExit(4)")
    one = function(tmp_path, source)
    aether = start(config_of(one))
    # It is gone when it is asked, or goes while it is.
    assert {get(one)[0] for _ in range(3)} <= {502, 503}
    eventually(lambda: "exited with code 4" in aether.text(), "its end is told")


# ---- What is left


def held_by(aether):
    """Descriptors, threads, children (dead ones too) and control groups."""
    folder = pathlib.Path(f"/proc/{aether.pid}")
    tasks = list((folder / "task").iterdir())
    try:
        children = sum(len((task / "children").read_text().split()) for task in tasks)
    except OSError:  # a thread has ended meanwhile
        return None
    own = re.search(r"aether-([0-9a-f]{8})-", pathlib.Path(f"/proc/{aether.function()['pid']}/cgroup").read_text())
    return {"descriptors": len(list((folder / "fd").iterdir())), "threads": len(tasks), "children": children,
            "groups": len(groups_of(own[1])) if own else 0}


def resident(pid):
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def test_two_hundred_copies_that_died_at_work_leave_nothing_behind(start, tmp_path):
    dies = HANDLER.replace("    def do_GET(self):\n",
                           '    def do_GET(self):\n        if self.path == "/die": os.kill(os.getpid(), 9)\n')
    one = function(tmp_path, dies, max_instances=2, parked=0, idle_timeout="100ms", on_restore_failure="cold")
    aether = start(config_of(one))
    template = aether.function()["pid"]

    def at_rest():
        return [each["state"] for each in aether.function()["instances"]] == ["template"] and held_by(aether)

    def die(times):
        for _ in range(times):
            status, body = get(one, "/die")
            assert status == 502 and "signal 9" in body, body
        eventually_hello(one)

    die(20)
    before = eventually(lambda: at_rest_twice(at_rest), "it is at rest")
    memory = resident(aether.pid), resident(template)
    die(200)
    eventually(lambda: at_rest_twice(at_rest) == before, f"as before, {before}: {held_by(aether)}")
    assert aether.function()["pid"] == template
    assert aether.function()["crashes"] == 220
    limit = (256 if SANITIZED else 8) << 20
    assert resident(aether.pid) - memory[0] < limit and resident(template) - memory[1] < limit


def at_rest_twice(look):
    """Twice in a row the same."""
    first = look()
    return first if first and look() == first else None
