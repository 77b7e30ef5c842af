# SPDX-License-Identifier: Apache-2.0
"""/metrics: as Prometheus wants it, complete, never going back, and quick while a swap runs."""

import http.client
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

import exposition
from aether import PATIENCE, eventually, free_port
from programs import ASYNCIO, program

DOCS = Path(__file__).parents[2] / "docs"
DEPLOY = Path(__file__).parents[2] / "deploy"
# Met by unit tests only: an overflow and a refused descriptor take a broken program or a full kernel.
NOT_HERE = {"aether_drain_connections", "aether_rollback_seconds"}
# No function and no job runs here, and nothing is asked of BPF; test_function_cli, test_jobs_house, test_function_ring
# and test_function_packets look for these, and the unit test of the page for all.
OF_OTHERS = ("function_", "warm_pool_", "aether_function_", "aether_start_", "aether_job", "aether_journal_",
             "aether_shm_", "aether_xdp_", "aether_connections_given_", "aether_canary_")


def listed():
    """{name: type} of docs/metrics.md."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|", (DOCS / "metrics.md").read_text(), re.M)
    assert rows
    return dict(rows)


def page_of(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return text


MEMORY = """
import signal, socket, threading
from aeterna import AeternaClient
client = AeternaClient()
memory = client.load_context()
memory["n"] = memory.get("n", 0) + 1
listener = client.get_listener_socket()
client.ready()
while True:
    connection, _ = listener.accept()
    connection.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\nok")
    connection.close()
"""


def config_of(folder, metrics, text=ASYNCIO, **orchestration):
    return {"service": {"name": "web", "command": program(folder, "web.py", text), "stop_timeout": "2s",
                        "listen": f"127.0.0.1:{free_port()}", "restart": {"backoff": {"min": "10ms", "max": "10ms"}}},
            "orchestration": {"soak_time": "0s", **orchestration},
            "observability": {"metrics_port": f"127.0.0.1:{metrics}"}}


@pytest.mark.edge("H3")
def test_every_metric_of_the_list_is_on_the_page_and_none_is_unlisted(start, tmp_path):
    metrics = free_port()
    config = config_of(tmp_path, metrics, MEMORY, state_handoff=True, drain={"timeout": "30s", "stop": "at_deadline"})
    aether = start(config)
    pages = [page_of(metrics)]
    good = (tmp_path / "web.py").read_text()
    assert aether.reload()["verdict"] == "succeeded"
    pages.append(page_of(metrics))
    (tmp_path / "web.py").write_text("raise SystemExit(1)")
    assert aether.reload()["verdict"] == "rolled-back"
    (tmp_path / "web.py").write_text(good)
    os.kill(aether.service()["pid"], 9)
    eventually(lambda: aether.service()["restarts"] == 1 and aether.service()["state"] != "STARTING", "it is back")
    assert aether.ask("GET", "/v1/nothing")[0] == 404
    connection = http.client.HTTPConnection("127.0.0.1", metrics, timeout=PATIENCE)
    connection.request("POST", "/v1/stop", headers={"Origin": "http://evil.example"})
    assert connection.getresponse().status == 403
    connection.close()
    pages.append(page_of(metrics))

    seen = {}
    before = {}
    for text in pages:
        if shutil.which("promtool"):
            subprocess.run(["promtool", "check", "metrics"], input=text, text=True, check=True, timeout=PATIENCE)
        families = exposition.parse(text)
        assert not exposition.gone_back(before, families)
        before = families
        seen.update({name: family.type for name, family in families.items() if family.samples})
    wanted = listed()
    assert set(seen) - set(wanted) == set(), "each one is in docs/metrics.md"
    missing = {name for name in set(wanted) - set(seen) - NOT_HERE if not name.startswith(OF_OTHERS)}
    assert missing == set(), "each one is observed"
    assert all(wanted[name] == kind for name, kind in seen.items())
    assert before["aether_rollbacks_total"].value(service="web", phase="launching") == 1
    assert before["aeterna_restarts_total"].value(service="web", reason="crash") == 1
    assert before["aether_handoff_bytes_total"].value(service="web") > 0


@pytest.mark.edge("H3")
def test_a_scrape_is_quick_while_swaps_run(start, tmp_path):
    metrics = free_port()
    aether = start(config_of(tmp_path, metrics))
    page_of(metrics)
    times = []
    reloading = subprocess.Popen(
        ["sh", "-c", " && ".join([f"{aether.binary} -c {aether.config} reload"] * 3)], env=aether.env,
        stdout=subprocess.DEVNULL)
    while reloading.poll() is None:
        began = time.monotonic()
        page_of(metrics)
        times.append(time.monotonic() - began)
    assert reloading.returncode == 0 and times
    times.sort()
    # 50 ms on a machine of its own; ten times that among other tests, and half of the scrapes.
    assert times[len(times) // 2] < 0.5, times


@pytest.mark.edge("H3")
def test_the_page_is_there_all_the_time_while_swaps_good_and_bad_run(start, tmp_path):
    metrics = free_port()
    aether = start(config_of(tmp_path, metrics))
    good = (tmp_path / "web.py").read_text()
    before = exposition.parse(page_of(metrics))
    for text in (good, "raise SystemExit(1)", good):
        (tmp_path / "web.py").write_text(text)
        assert aether.ask("POST", "/v1/reload")[0] == 202
        while True:
            now = exposition.parse(page_of(metrics))
            assert not exposition.gone_back(before, now)
            before = now
            if aether.service()["phase"] == "idle":
                break


def promtool():
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed (package prometheus)")
    return "promtool"


@pytest.mark.edge("H3")
def test_the_alert_rules_are_rules_and_fire_when_they_should():
    for command in (["check", "rules", "alerts.yaml"], ["test", "rules", "alerts_test.yaml"]):
        done = subprocess.run([promtool(), *command], cwd=DEPLOY / "prometheus", capture_output=True, text=True,
                              timeout=PATIENCE)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_alert_rules_name_metrics_of_the_list_only():
    rules = (DEPLOY / "prometheus" / "alerts.yaml").read_text()
    named = set(re.findall(r"\b(?:aether|aeterna|process)_[a-z_]+\b", "\n".join(re.findall(r"expr: (.*)", rules))))
    assert named and {re.sub(r"_(bucket|sum|count)$", "", name) for name in named} <= set(listed())
