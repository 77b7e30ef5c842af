# SPDX-License-Identifier: Apache-2.0
"""The HTTP API, over TCP and over the control socket, as docs/openapi.yaml has it."""

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import urllib.parse

import pytest

import exposition
from aether import PATIENCE, UnixConnection, eventually, free_port
from programs import ASYNCIO, program


def config_of(folder, soak="0s", **more):
    return {
        "service": {"name": "web", "command": program(folder, "web.py", "print('hello there')\n" + ASYNCIO),
                    "listen": f"127.0.0.1:{free_port()}", "stop_timeout": "2s", **more},
        "orchestration": {"soak_time": soak},
        "observability": {"metrics_port": f"127.0.0.1:{free_port()}"},
    }


class Tcp:
    """The page that `metrics_port` serves."""

    def __init__(self, aether, config):
        self.aether = aether
        host, _, port = config["observability"]["metrics_port"].rpartition(":")
        self.host, self.port = host or "127.0.0.1", int(port)

    def ask(self, method, path, body=None, headers=None):
        """(status, headers, body) of one request."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode()
        finally:
            connection.close()

    def json(self, method, path, body=None, headers=None):
        status, headers, text = self.ask(method, path, body, headers)
        return status, json.loads(text)

    def metrics(self):
        status, headers, text = self.ask("GET", "/metrics")
        assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return exposition.parse(text), text

    def idle(self):
        return eventually(lambda: self.aether.service()["phase"] == "idle", "no swap runs")


@pytest.fixture
def api(start, tmp_path):
    config = config_of(tmp_path)
    return Tcp(start(config), config)


# ---- the seeds' pages


def test_health_is_200_while_it_serves_and_503_when_not(start, tmp_path):
    config = config_of(tmp_path, restart={"policy": "on-failure", "backoff": {"min": "60s", "max": "60s"}})
    api = Tcp(start(config), config)
    assert api.json("GET", "/health") == (200, {"status": "ok"})
    os.kill(api.aether.service()["pid"], 9)
    status, body = eventually(lambda: (got := api.json("GET", "/health"))[0] == 503 and got, "it is noticed")
    assert body["status"] == "unavailable"
    assert body["services"][0]["service"] == "web" and "SIGKILL" in body["services"][0]["problem"]
    assert api.aether.ask("GET", "/v1/status")[1]["fsm_state"] == "FAILED"


def test_status_has_the_fields_of_the_seed(api):
    status, body = api.json("GET", "/v1/status")
    assert status == 200
    assert body["fsm_state"] == "RUNNING" and body["old_pid"] is None and body["last_handover"] is None
    assert isinstance(body["current_pid"], int) and isinstance(body["uptime"], str)
    assert body["pid"] == api.aether.pid
    old = body["current_pid"]
    api.aether.reload()
    body = api.json("GET", "/v1/status")[1]
    assert body["current_pid"] != old
    assert body["last_handover"]["status"] == "succeeded"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", body["last_handover"]["timestamp"])
    assert body["last_handover"]["size_bytes"] == 0
    assert body["services"][0]["last_swap"]["phases"]


@pytest.mark.edge("H3")
def test_the_metrics_page_is_valid_and_has_the_names_of_the_seeds(api):
    api.aether.reload()
    api.idle()
    families, text = api.metrics()
    if shutil.which("promtool"):
        subprocess.run(["promtool", "check", "metrics"], input=text, text=True, check=True)
    phases = {labels["phase"] for name, labels, _ in families["aeterna_handover_duration_seconds"].samples}
    assert {"preflight", "launching"} <= phases
    assert families["aeterna_handover_duration_seconds"].type == "histogram"
    assert families["aeterna_restarts_total"].value(service="web", reason="reload") == 1
    assert families["aeterna_process_state"].value(service="web") == 0
    assert families["aether_swaps_total"].value(service="web", verdict="succeeded") == 1
    assert families["aether_service_revision"].value(service="web") == 2
    assert families["aether_instance_memory_bytes"].value(service="web", revision="2") > 1_000_000
    for name in ("aether_blackout_seconds", "aether_reaped_total", "aether_accept_queue",
                 "aether_accept_overflows_total", "aether_service_up", "process_open_fds"):
        assert name in families, name


@pytest.mark.edge("H3")
def test_counters_never_go_back_over_swaps_good_and_bad(api, tmp_path):
    good = (tmp_path / "web.py").read_text()
    before, _ = api.metrics()
    for text in (good, "raise SystemExit(1)", good, "raise SystemExit(1)", good):
        (tmp_path / "web.py").write_text(text)
        api.aether.reload()
        api.idle()
        now, _ = api.metrics()
        gone_back = exposition.gone_back(before, now)
        assert not gone_back, gone_back
        before = now
    assert before["aether_swaps_total"].value(service="web", verdict="succeeded") == 3
    assert before["aether_swaps_total"].value(service="web", verdict="rolled-back") == 2


def test_crashes_are_counted_by_their_reason(start, tmp_path):
    config = config_of(tmp_path, restart={"backoff": {"min": "10ms", "max": "10ms"}})
    api = Tcp(start(config), config)
    os.kill(api.aether.service()["pid"], 9)
    eventually(lambda: (web := api.aether.service())["restarts"] == 1 and web["state"] == "RUNNING", "it is back")
    assert api.metrics()[0]["aeterna_restarts_total"].value(service="web", reason="crash") == 1


# ---- reloading


def test_reload_is_202_and_409_while_one_runs(start, tmp_path):
    config = config_of(tmp_path, soak="30s")
    api = Tcp(start(config), config)
    status, body = api.json("POST", "/v1/reload", json.dumps({"reason": "new model", "force": False}))
    assert (status, body) == (202, {"swaps": [{"service": "web", "swap": 1}]})
    status, headers, text = api.ask("POST", "/v1/reload")
    problem = json.loads(text)
    assert status == 409 and headers["Content-Type"] == "application/problem+json"
    assert problem["type"] == "urn:aether:error:swap-running" and problem["status"] == 409
    assert problem["detail"] and problem["cure"] and problem["title"] and problem["code"] == "swap-running"
    assert re.search(r"phase: (preflight|launching|soaking)", problem["detail"])
    assert api.aether.service()["last_swap"]["reason"] == "new model"
    assert api.json("POST", "/v1/services/web/rollback?wait=true")[1]["swaps"][0]["verdict"] == "rolled-back"


def test_the_verdict_can_be_waited_for_and_asked_for_later(api):
    status, body = api.json("POST", "/v1/services/web/reload?wait=true")
    assert status == 200 and body["swaps"][0]["verdict"] == "succeeded"
    number = body["swaps"][0]["swap"]
    assert api.json("GET", f"/v1/services/web/swaps/{number}") == (200, body)
    assert api.json("GET", "/v1/services/web/swaps/99")[0] == 404
    assert api.json("GET", "/v1/services/web/swaps/soon")[0] == 400


@pytest.mark.parametrize("body", ["{", "[]", '"x"', "\x00", "{}x"])
def test_a_reload_with_a_body_that_is_no_object_is_refused(api, body):
    status, problem = api.json("POST", "/v1/reload", body)
    assert (status, problem["code"]) == (400, "request-invalid")
    assert api.aether.service()["revision"] == 1


# ---- services, logs, events


def test_services_are_listed_and_found_by_name(api):
    listed = api.json("GET", "/v1/services")[1]["services"]
    assert [one["name"] for one in listed] == ["web"]
    assert api.json("GET", "/v1/services/web")[1]["pid"] == listed[0]["pid"]
    status, problem = api.json("GET", "/v1/services/" + urllib.parse.quote("no/such one"))
    assert (status, problem["code"]) == (404, "service-unknown") or status == 404


@pytest.mark.edge("H4")
def test_logs_have_a_line_each_and_can_be_followed_over_a_swap(api):
    status, headers, text = api.ask("GET", "/v1/services/web/logs?tail=5")
    assert status == 200 and headers["Content-Type"] == "application/x-ndjson"
    line = json.loads(text.splitlines()[0])
    assert (line["text"], line["service"], line["revision"], line["stream"]) == ("hello there", "web", 1, "stdout")
    connection = http.client.HTTPConnection(api.host, api.port, timeout=PATIENCE)
    connection.request("GET", "/v1/services/web/logs?follow=true&tail=0")
    stream = connection.getresponse()
    api.aether.reload()
    line = json.loads(stream.readline())
    assert (line["text"], line["revision"]) == ("hello there", 2)
    connection.close()
    assert api.json("GET", "/v1/services/web/logs?tail=some")[0] == 400
    assert api.json("GET", "/v1/services/webs/logs")[0] == 404


def events(stream, until):
    """Server-sent events as (id, type, data), up to the first one that `until` holds for."""
    seen, fields = [], {}
    while True:
        line = stream.readline().decode().rstrip("\n")
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
            continue
        if fields:
            seen.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
            fields = {}
            if until(seen[-1]):
                return seen


def test_events_tell_states_and_swaps_and_can_be_taken_up_again(api):
    connection = http.client.HTTPConnection(api.host, api.port, timeout=PATIENCE)
    connection.request("GET", "/v1/events")
    stream = connection.getresponse()
    assert stream.headers["Content-Type"] == "text/event-stream"
    api.aether.reload()
    seen = events(stream, lambda event: event[1] == "swap")
    connection.close()
    ids = [event[0] for event in seen]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert {"service": "web", "state": "STARTING"} in [event[2] for event in seen]
    swaps = [event for event in seen if event[1] == "swap"]
    assert len(swaps) == 1 and swaps[0][2]["verdict"] == "succeeded"

    connection = http.client.HTTPConnection(api.host, api.port, timeout=PATIENCE)
    connection.request("GET", "/v1/events", headers={"Last-Event-ID": str(ids[0])})
    again = events(connection.getresponse(), lambda event: event[0] == ids[-1])
    connection.close()
    assert again == seen[1:]
    assert api.json("GET", "/v1/events", headers={"Last-Event-ID": "first"})[0] == 400


# ---- who may ask


OPEN = [("GET", "/health"), ("GET", "/metrics")]
GUARDED = [("GET", "/v1/status"), ("POST", "/v1/reload"), ("POST", "/v1/stop"), ("GET", "/v1/services/web/logs")]


def test_a_web_page_may_not_ask_for_more_than_the_open_pages(api):
    for method, path in GUARDED:
        for origin in ("http://evil.example", "null", f"http://127.0.0.1:{api.port}"):
            status, problem = api.json(method, path, headers={"Origin": origin})
            assert (status, problem["code"]) == (403, "forbidden"), (method, path, origin)
    for method, path in OPEN:
        assert api.ask(method, path, headers={"Origin": "http://dashboard.example"})[0] == 200
    assert api.aether.service()["revision"] == 1


def own_address():
    """An address of this machine that is not a loopback one; None if it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return None
        address = probe.getsockname()[0]
    return None if address.startswith("127.") else address


def test_another_machine_sees_only_the_open_pages(start, tmp_path):
    address = own_address()
    if address is None:
        pytest.skip("this machine has no address but the loopback ones")
    config = config_of(tmp_path)
    port = free_port()
    config["observability"]["metrics_port"] = f":{port}"
    api = Tcp(start(config), config)
    api.host = address
    for method, path in OPEN:
        assert api.ask(method, path)[0] == 200
    for method, path in GUARDED:
        assert api.json(method, path)[0] == 403
    assert api.aether.service()["state"] == "RUNNING"


def test_what_is_not_there_is_told_as_a_problem(api):
    for method, path in (("GET", "/"), ("GET", "/v2/status"), ("DELETE", "/v1/status"), ("GET", "/v1/reload"),
                         ("PUT", "/v1/services/web"), ("GET", "/v1/services/web/nothing"), ("POST", "/metrics")):
        status, headers, text = api.ask(method, path)
        problem = json.loads(text)
        assert status in (404, 405) and problem["status"] == status, (method, path, status)
        assert headers["Content-Type"] == "application/problem+json"
        if status == 405:
            assert headers["Allow"]


@pytest.mark.edge("H2")
def test_garbage_and_giants_do_no_harm(api):
    giant = b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n"
    for bytes_sent in (b"\x00\xff\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", giant):
        with socket.create_connection((api.host, api.port), timeout=PATIENCE) as raw:
            raw.sendall(bytes_sent)
            assert re.match(rb"HTTP/1.1 (4\d\d|505) ", raw.recv(4096))
    assert api.ask("POST", "/v1/reload", "x" * (2 << 20))[0] == 413
    assert api.json("GET", "/health")[0] == 200


@pytest.mark.edge("H2")
def test_the_control_socket_is_private_and_speaks_the_same_api(api):
    path = api.aether.control_socket
    assert path.stat().st_mode & 0o777 == 0o600
    # Others may pass through the folder, for services with `user:`; they can neither list nor write it.
    assert path.parent.stat().st_mode & 0o777 == 0o711
    assert api.aether.ask("GET", "/v1/services")[0] == 200
    assert api.aether.ask("GET", "/health") == (200, {"status": "ok"})
    connection = UnixConnection(path)
    connection.request("GET", "/metrics")
    exposition.parse(connection.getresponse().read().decode())
    connection.close()


def test_stop_is_answered_and_then_everything_ends(api):
    assert api.json("POST", "/v1/stop") == (202, {"stopping": True})
    assert api.aether.process.wait(PATIENCE) == 0
