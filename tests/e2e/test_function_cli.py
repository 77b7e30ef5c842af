# SPDX-License-Identifier: Apache-2.0
"""What the command line and the API say and do about functions that run."""

import http.client
import json
import re
import signal
import subprocess
from pathlib import Path

import pytest

import exposition
from aether import BINARY, PATIENCE, eventually, free_port
from terminals import Terminal

METRICS = Path(__file__).parents[2] / "docs" / "metrics.md"

HANDLER = '''
import json, os, socket
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        status = int(self.path.rsplit("/", 1)[1]) if self.path.startswith("/status/") else 200
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        if self.command != "HEAD":
            answer = {"version": VERSION, "method": self.command, "path": self.path, "body": body,
                      "who": self.headers.get("X-Who"), "type": self.headers.get("Content-Type")}
            self.wfile.write(json.dumps(answer).encode())
    do_GET = do_POST = do_PUT = do_HEAD = answer

    def log_message(self, format, *args):
        print("asked", self.path, flush=True)

talk = socket.socket(socket.AF_UNIX)
talk.connect(os.environ["AETHER_SOCKET"])
talk.send(b"READY")
print("version", VERSION, "starts", flush=True)
HTTPServer(("127.0.0.1", int(os.environ["AETHER_TRIGGER_PORT"])), Handler).serve_forever()
'''


def write_handler(folder, version=1, name="hello.py"):
    path = folder / name
    path.write_text(f"VERSION = {version}\n" + HANDLER)
    return str(path)


def config_of(folder, **more):
    return {"functions": [{"id": "hello-api", "memory_limit_mb": 128, "trigger_port": free_port(),
                           "handler_path": write_handler(folder), "environment": {"SECRET": "do-not-show"}, **more}],
            "orchestrator": {"warm_pool_size": 1, "restore_timeout_ms": 100},
            "observability": {"metrics_port": "none"}}


@pytest.fixture
def hello(start, tmp_path):
    return start(config_of(tmp_path))


def invoke(aether, *words, code=0, **options):
    done = aether.cli("invoke", "hello-api", *words, **options)
    assert done.returncode == code, (done.stdout, done.stderr)
    return done


def test_list_names_it_with_its_port(hello):
    port = hello.status()["functions"][0]["trigger_port"]
    lines = hello.cli("list").stdout.splitlines()
    assert lines[0].split() == ["FUNCTION", "STATE", "PORT", "PID", "MEMORY", "INSTANCES", "HANDLER"]
    assert lines[1].split()[:3] == ["hello-api", "RUNNING", str(port)] and lines[1].endswith("hello.py")
    listed = json.loads(hello.cli("list", "-o", "json").stdout)
    assert listed["functions"][0]["id"] == "hello-api" and listed["services"] == []
    assert f"● hello-api            → http://localhost:{port}  [Running]" in hello.cli("status").stdout
    assert json.loads(hello.cli("status", "hello-api", "-o", "json").stdout)["trigger_port"] == port


def test_invoke_prints_the_answer_and_says_how_it_was_started(hello):
    done = invoke(hello, "/users?a=b")
    assert json.loads(done.stdout)["path"] == "/users?a=b"
    assert re.fullmatch(r"200 OK, start: (warm|parked|clone|cold), \S+s\n", done.stderr), done.stderr
    assert json.loads(invoke(hello, "/users").stdout)["method"] == "GET"
    done = invoke(hello, "-d", '{"name": "Ada"}', "-H", "X-Who: me")
    answer = json.loads(done.stdout)
    assert (answer["method"], answer["body"], answer["who"], answer["path"]) == ("POST", '{"name": "Ada"}', "me", "/")
    assert answer["type"] == "application/json"
    (hello.folder / "data.txt").write_text("from a file")
    assert json.loads(invoke(hello, "-X", "PUT", "-d", "@data.txt").stdout)["body"] == "from a file"
    assert json.loads(invoke(hello, "-d", "@-", input="from stdin").stdout)["body"] == "from stdin"


def test_invoke_shows_the_head_and_speaks_json(hello):
    done = invoke(hello, "-i", "/x")
    head, body = done.stdout.split("\n\n", 1)
    assert head.startswith("HTTP/1.1 200 OK\n") and "X-Aether-Start: " in head
    assert json.loads(body)["path"] == "/x"
    told = json.loads(invoke(hello, "-o", "json", "/x").stdout)
    assert told["status"] == 200 and told["took_ms"] > 0 and json.loads(told["body"])["path"] == "/x"
    assert told["start"] in ("warm", "parked", "clone", "cold")


def test_invoke_fails_with_the_answer_that_failed(hello):
    done = invoke(hello, "/status/404", code=1)
    assert json.loads(done.stdout)["path"] == "/status/404" and done.stderr.startswith("404 Not Found")
    done = hello.cli("invoke", "nobody")
    assert done.returncode == 1 and "hello-api" in done.stderr and "nobody" in done.stderr
    assert hello.cli("invoke").returncode == 2
    assert invoke(hello, "-H", "no colon", code=2).stdout == ""


def test_inspect_tells_how_it_is_made_and_hides_values(hello):
    done = hello.cli("inspect", "hello-api")
    assert done.returncode == 0, done.stderr
    for label in ("state", "trigger port", "launch", "sandbox", "memory limit mb", "max instances", "timeout"):
        assert re.search(rf"^  {label} ", done.stdout, re.M), (label, done.stdout)
    assert "SECRET" in done.stdout and "do-not-show" not in done.stdout
    told = json.loads(hello.cli("inspect", "-o", "json").stdout)  # the only one
    assert told["function"]["launch"] == "clone" or told["function"]["not_cloneable"], "else it says why"
    assert "do-not-show" not in json.dumps(told)


def test_logs_of_a_function_are_followed(hello):
    follow = subprocess.Popen([str(hello.binary), "-c", str(hello.config), "logs", "-f", "hello-api"], env=hello.env,
                              stdout=subprocess.PIPE, text=True)
    try:
        assert "[hello-api r1] version 1 starts" in follow.stdout.readline()
        invoke(hello, "/somewhere")
        line = follow.stdout.readline()
        while "asked /somewhere" not in line:
            assert line
            line = follow.stdout.readline()
    finally:
        follow.send_signal(signal.SIGINT)
        follow.wait(PATIENCE)
        follow.stdout.close()


def test_deploy_and_rollback_tell_what_became_of_it(hello, tmp_path):
    config = json.loads(hello.config.read_text())
    write_handler(tmp_path, 2, "second.py")
    config["functions"][0]["handler_path"] = str(tmp_path / "second.py")
    (hello.folder / "next.yaml").write_text(json.dumps(config))
    done = hello.cli("deploy", "next.yaml")
    assert done.returncode == 0 and re.fullmatch(r"✓ hello-api: revision 1 → 2 \(\S+\)\n", done.stdout), done
    assert json.loads(invoke(hello).stdout)["version"] == 2

    (tmp_path / "broken.py").write_text("raise SystemExit('no such thing')")
    config["functions"][0]["handler_path"] = str(tmp_path / "broken.py")
    (hello.folder / "broken.yaml").write_text(json.dumps(config))
    done = hello.cli("deploy", "broken.yaml")
    assert done.returncode == 1 and "not deployed, revision 2 serves on" in done.stdout, done
    assert json.loads(invoke(hello).stdout)["version"] == 2

    done = hello.cli("rollback", "hello-api")
    assert done.returncode == 0 and done.stdout.startswith("✓ hello-api: revision 2 → "), done
    assert json.loads(invoke(hello).stdout)["version"] == 1

    done = hello.cli("deploy", "nothing.yaml")
    assert done.returncode == 1 and "config-not-found" in done.stderr, done.stderr
    (hello.folder / "bad.yaml").write_text("functions: [{id: x}]")
    done = hello.cli("deploy", "bad.yaml")
    assert done.returncode == 1 and "bad.yaml:1:" in done.stderr, done.stderr


def test_the_api_deploys_a_body_and_removes(hello, tmp_path):
    port = free_port()
    body = {"functions": [{"id": "other", "memory_limit_mb": 64, "trigger_port": port,
                           "handler_path": write_handler(tmp_path, 7, "other.py")}]}
    code, answer = hello.ask("POST", "/v1/functions", body)
    assert code == 200 and answer["deploys"][0]["verdict"] == "succeeded", answer
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("GET", "/")
    assert json.loads(connection.getresponse().read())["version"] == 7
    connection.close()
    assert hello.ask("POST", "/v1/functions/other/reload")[1]["deploys"][0]["revision"] == 2
    assert hello.ask("DELETE", "/v1/functions/other")[0] == 200
    code, problem = hello.ask("GET", "/v1/functions/other")
    assert code == 404 and problem["code"] == "function-unknown"
    eventually(lambda: refused(port), "its port is free again")


def refused(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.connect()
    except ConnectionRefusedError:
        return True
    finally:
        connection.close()
    return False


def test_stats_and_metrics_count_the_same(start, tmp_path):
    metrics = free_port()
    aether = start({**config_of(tmp_path), "observability": {"metrics_port": f"127.0.0.1:{metrics}"}})
    for path in ("/a", "/b", "/status/500"):
        aether.cli("invoke", "hello-api", path)

    def counted():
        one = json.loads(aether.cli("stats", "-o", "json").stdout)["functions"][0]
        return one if one["requests"]["count"] == 3 else None

    told = eventually(counted, "three requests")
    assert told["requests"]["by_status"] == {"200": 2, "500": 1}
    row = next(line.split() for line in aether.cli("stats").stdout.splitlines() if line.startswith("hello-api "))
    assert row[:2] == ["hello-api", "RUNNING"]
    connection = http.client.HTTPConnection("127.0.0.1", metrics, timeout=PATIENCE)
    connection.request("GET", "/metrics")
    page = exposition.parse(connection.getresponse().read().decode())
    connection.close()
    of = {"function": "hello-api"}
    assert page["aether_function_requests_total"].value(status="200", **of) == 2
    assert page["aether_function_up"].value(**of) == 1
    started = sum(one["count"] for one in told["starts"].values())
    assert started > 0
    cold = page["function_cold_starts_total"].value(**of)
    restored = sum(value for _, _, value in page["function_restores_total"].samples)
    assert cold + restored > 0
    # No start failed and nothing was refused; without ptrace nothing is cloned. Unit tests have those.
    not_here = {"aether_function_refusals_total", "aether_function_start_failures_total",
                "function_restore_duration_seconds"}
    listed = set(re.findall(r"^\| `((?:aether_)?(?:function|warm_pool|start)_\w+)`", METRICS.read_text(), re.M))
    assert len(listed) > 10 and listed - set(page) - not_here == set()


def test_the_dashboard_shows_a_function_and_makes_a_new_revision(hello):
    words = [str(BINARY), "-c", str(hello.config), "stats", "--dashboard"]
    with Terminal(words, 100, 30, {"TERM": "screen-256color", "AETHER_RUNTIME_DIR": str(hello.runtime)}) as terminal:
        terminal.shows(">hello-api", "RUNNING", "STARTS")
        invoke(hello, "/from-the-dashboard")
        terminal.press("Enter")
        terminal.shows("hello.py", "limits", "128 MB")
        terminal.press("Escape", "r", "y")
        terminal.shows("hello-api: revision 2 serves")
        terminal.press("q")
        terminal.shows("ended with 0")


def test_completion_knows_functions(hello):
    def words(kind):
        return hello.cli("words", kind).stdout.split()

    assert words("functions") == ["hello-api"] and words("names") == ["hello-api"] and words("services") == []
    assert {"deploy", "stats", "invoke"} <= set(words("commands"))
