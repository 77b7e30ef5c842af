# SPDX-License-Identifier: Apache-2.0
"""How functions start, what they say when they cannot, and what is left of them."""

import os
import signal
import subprocess
import urllib.error
import urllib.request

import pytest

from aether import PATIENCE, eventually, free_port

HANDLER = """\
import os, socket, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"{WORD} {os.getpid()}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words):
        pass
WORD = "hello"
def say_ready():
    s = socket.socket(socket.AF_UNIX)
    s.connect(os.environ["AETHER_SOCKET"])
    s.send(b"READY")
    return s
kept = say_ready()
HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
SAYS = 'kept = say_ready()\n'


def function(folder, source=HANDLER, name="f", **keys):
    """A function's entry in the configuration, with a handler of that source."""
    folder.mkdir(parents=True, exist_ok=True)
    handler = folder / f"{name}.py"
    handler.write_text(source)
    return {"id": name, "memory_limit_mb": 128, "trigger_port": free_port(), "handler_path": str(handler), **keys}


def config_of(*functions, **orchestrator):
    settings = {"restore_timeout_ms": 100, "warm_pool_size": 2, **orchestrator}
    return {
        "functions": list(functions),
        "orchestrator": settings,
        "observability": {"metrics_port": "none"},
    }


def get(one, path="/"):
    """(status, body) of a request to the function."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{one['trigger_port']}{path}", timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def eventually_hello(one, word="hello"):
    return eventually(lambda: get(one)[1].startswith(word) and get(one)[1], f"{one['id']} answers {word}")


@pytest.mark.parametrize(
    "says",
    [
        'kept = socket.socket(socket.AF_UNIX)\nkept.connect(os.environ["AETHER_SOCKET"])\n'
        'kept.send(b"RE")\nimport time; time.sleep(0.05)\nkept.send(b"ADY\\n")\n',
        "say_ready().close()\n",
        'kept = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n'
        'kept.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])\nkept.close()\n',
    ],
    ids=["in_pieces_with_a_newline", "and_hangs_up", "by_sd_notify"],
)
@pytest.mark.parametrize("launch", ["auto", "spawn"])
def test_a_handler_says_that_it_is_ready(start, tmp_path, says, launch):
    one = function(tmp_path, HANDLER.replace(SAYS, says), launch=launch)
    aether = start(config_of(one))
    assert aether.function()["state"] == "RUNNING"
    assert get(one)[0] == 200


def test_a_handler_that_ends_before_it_is_ready_is_told_with_its_last_lines_and_the_others_run(start, tmp_path):
    bad = function(tmp_path, 'print("no database here", flush=True)\nraise SystemExit(3)\n', "bad")
    good = function(tmp_path, name="good")
    aether = start(config_of(bad, good))
    assert aether.function("bad")["state"] == "FAILED"
    assert "exited with code 3" in aether.function("bad")["problem"]
    assert "no database here" in aether.function("bad")["problem"]
    status, told = get(bad)
    assert status == 503 and "exited with code 3" in told
    assert get(good)[0] == 200


def test_a_handler_of_several_processes_is_said_not_to_be_cloneable_and_served_all_the_same(start, tmp_path):
    with_child = HANDLER.replace(SAYS, 'import subprocess\nchild = subprocess.Popen(["sleep", "1000"])\n' + SAYS)
    one = function(tmp_path, with_child)
    aether = start(config_of(one))
    told = aether.function()
    assert told["launch"] == "spawn"
    assert any("sleep" in why for why in told["not_cloneable"]), told
    assert get(one)[0] == 200


def test_what_must_be_cloned_and_cannot_does_not_run(start, tmp_path):
    with_child = HANDLER.replace(SAYS, 'import subprocess\nchild = subprocess.Popen(["sleep", "1000"])\n' + SAYS)
    aether = start(config_of(function(tmp_path, with_child, launch="clone")))
    assert aether.function()["state"] == "FAILED"
    assert "cannot be copied" in aether.function()["problem"]


def test_a_template_that_dies_is_made_anew(start, tmp_path):
    one = function(tmp_path)
    aether = start(config_of(one))
    template = aether.function()["pid"]
    os.kill(template, signal.SIGKILL)
    eventually(lambda: aether.function()["pid"] not in (0, template) and aether.function()["revision"] == 2, "anew")
    assert aether.function()["launch"] == "clone"
    assert get(one)[0] == 200


def test_a_hangup_deploys_the_handlers_anew(start, tmp_path):
    one = function(tmp_path)
    aether = start(config_of(one))
    eventually_hello(one)
    (tmp_path / "f.py").write_text(HANDLER.replace('WORD = "hello"', 'WORD = "again"'))
    aether.hangup()
    eventually_hello(one, "again")


def test_a_killed_aether_leaves_no_handler_and_the_next_one_starts(start, tmp_path):
    one = function(tmp_path)
    config = config_of(one, function(tmp_path, name="spawned", launch="spawn"))
    aether = start(config)
    eventually(lambda: sum(i["state"] == "parked" for i in aether.function("f")["instances"]) == 2, "copies are parked")
    pids = [i["pid"] for f in aether.functions() for i in f["instances"]]
    aether.kill()
    aether.start()
    eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), "those of the first one are gone")
    eventually_hello(one)


def test_a_port_that_is_taken_is_refused_by_name(start, tmp_path):
    one = function(tmp_path)
    first = start(config_of(one))
    second = start(config_of(one), wait=False)
    assert second.process.wait(PATIENCE) == 1
    assert "address-in-use" in second.text() and str(one["trigger_port"]) in second.text()
    assert first.function()["state"] == "RUNNING"


def test_a_stop_leaves_nothing(start, tmp_path):
    one = function(tmp_path)
    aether = start(config_of(one))
    eventually_hello(one)
    assert aether.stop() == 0
    left = subprocess.run(["pgrep", "-f", str(tmp_path / "f.py")], capture_output=True, text=True).stdout
    assert left == ""
