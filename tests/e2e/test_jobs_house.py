# SPDX-License-Identifier: Apache-2.0
"""An Aether that runs jobs, for those who operate it: metrics, status, reloads, starts and stops."""

import json
import re
import time
from pathlib import Path

import exposition
import pytest
from aether import eventually, free_port
from jobs import Jobs, config, http_node
from judge import Judge

DOCS = Path(__file__).parents[2] / "docs"
VALUE = [{"id": "v", "type": "value", "with": 1}]


@pytest.fixture(scope="module")
def judge():
    with Judge() as running:
        yield running


def metrics_of(house):
    code, headers, text = house.request("GET", "/metrics")
    assert code == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return exposition.parse(text)


def test_every_metric_of_jobs_is_on_the_page_and_counts_what_became_durable(tmp_path, judge):
    listed = set(re.findall(r"^\| `(aether_jo(?:bs?|urnal)_\w+)`", (DOCS / "metrics.md").read_text(), re.M))
    assert len(listed) >= 8
    with Jobs(tmp_path / "jobs", config()) as house:
        good = house.submit([http_node(judge, "n", "/echo/metrics")], key="one")
        assert house.submit([http_node(judge, "n", "/echo/metrics")], key="one") == good
        bad = house.submit([http_node(judge, "n", "/no/metrics")])
        assert (house.ended(good)["status"], house.ended(bad)["status"]) == ("completed", "failed")
        page = metrics_of(house)
        assert {name for name in listed if not page[name].samples} == set()
        assert page["aether_jobs_opened_total"].value() == 2
        assert page["aether_jobs_closed_total"].value(outcome="succeeded") == 1
        assert page["aether_jobs_closed_total"].value(outcome="failed") == 1
        assert page["aether_job_calls_total"].value(outcome="ok") == 1
        events = len(house.events(good)) + len(house.events(bad))
        assert page["aether_journal_events_total"].value() == events
        assert page["aether_journal_store_bytes"].value() > 0
        told = house.status()["jobs"]
        assert told["opened"] == 2 and told["closed"] == {"succeeded": 1, "failed": 1}
        assert "jobs" in house.cli("status").stdout


def test_a_reload_brings_new_agents_and_says_what_waits_for_a_restart(tmp_path):
    clerk = {"name": "clerk", "instructions": "say the first"}
    made = config(service={"name": "sleeper", "command": ["sleep", "1000"], "listen": "none"}, agents=[clerk])
    with Jobs(tmp_path / "jobs", made) as house:
        eventually(lambda: house.service()["state"] == "RUNNING", "the service runs")
        before = house.submit(agent="clerk")
        made["agents"] = [{**clerk, "instructions": "say the second"}, {"name": "other"}]
        made["tools"] = {"note": {"type": "process", "command": ["cat"]}}
        house.write_config(made)
        assert house.reload("sleeper")["verdict"] == "succeeded"
        assert "restart" in house.text() and "tools" in house.text(), house.text()
        after = house.submit(agent="clerk")
        assert house.ended(before)["output"]["text"] == "the first"
        assert house.ended(after)["output"]["text"] == "the second"
        assert house.ended(house.submit(agent="other", input="say hello"))["status"] == "completed"
        # What a key belongs to is what was asked for, not what the agent was declared as by then.
        code, _, problem = house.request("POST", "/v1/jobs", {"agent": "nobody"})
        assert code == 400 and "clerk" in problem["detail"], problem


def test_a_stop_with_a_call_under_way_is_over_in_seconds_and_leaves_nothing_open(tmp_path, judge):
    with Jobs(tmp_path / "jobs", config()) as house:
        ready = house.submit([http_node(judge, "n", "/hold/stop-read", policy="read")])
        unsure = house.submit([http_node(judge, "n", "/hold/stop-once")])
        for name in ("stop-read", "stop-once"):
            eventually(lambda name=name: judge.count(f"/hold/{name}") == 1, "the call is under way")
        began = time.monotonic()
        assert house.halt() == 0, house.text()
        assert time.monotonic() - began < 30
        house.verified()
        for name in ("stop-read", "stop-once"):
            judge.release(name)
        house.again()
        assert house.ended(ready)["status"] == "completed"
        assert house.wait_status(unsure, "parked")["waits"][0]["effect"]
        assert judge.count("/hold/stop-once") == 1


def test_a_stop_waits_for_a_call_that_is_about_to_end(tmp_path, judge):
    with Jobs(tmp_path / "jobs", config()) as house:
        run = house.submit([http_node(judge, "n", "/hold/about")])
        eventually(lambda: judge.count("/hold/about") == 1, "the call is under way")
        house.process.terminate()
        eventually(lambda: "stopping" in house.text(), "it stops")
        judge.release("about")
        assert house.halt() == 0
        house.again()
        assert house.ended(run)["status"] == "completed"
        assert judge.count("/hold/about") == 1


def test_in_the_background_it_is_started_asked_and_stopped(tmp_path):
    house = Jobs(tmp_path / "jobs", config())
    try:
        up = house.cli("up")
        assert up.returncode == 0, up.stdout + up.stderr
        done = house.cli("jobs", "submit", "--goal", "say hello", "--wait")
        assert done.returncode == 0 and "completed" in done.stdout, done.stdout + done.stderr
        again = house.cli("up")
        assert again.returncode == 1 and "already-running" in again.stderr
    finally:
        down = house.cli("down")
        house.stop()
    assert down.returncode == 0, down.stdout + down.stderr
    house.verified()


def test_a_port_that_is_taken_is_told_before_anything_is_called(tmp_path, judge):
    port = free_port()
    made = config(api={"host": "127.0.0.1", "port": port})
    with Jobs(tmp_path / "first", made) as first:
        waiting = first.submit([http_node(judge, "n", "/echo/taken")], delay="1s")
        first.crash()
        with Jobs(tmp_path / "other", made) as other:
            refused = first.cli("up", "-f")
            assert refused.returncode == 1 and str(port) in refused.stderr, refused.stderr
            assert judge.count("/echo/taken") == 0
            other.halt()
        first.again()
        assert first.ended(waiting)["status"] == "completed"


def test_without_a_section_about_jobs_there_are_none(tmp_path):
    made = {
        "service": {"name": "sleeper", "command": ["sleep", "1000"], "listen": "none"},
        "observability": {"metrics_port": "none"},
    }
    with Jobs(tmp_path / "jobs", made) as house:
        code, _, problem = house.request("GET", "/v1/jobs")
        assert code == 404 and "jobs:" in problem["detail"], problem
        assert "jobs" not in house.status()
        assert [path.name for path in house.folder.glob("*.db*")] == []
        refused = house.cli("jobs", "list")
        assert refused.returncode == 1 and "jobs:" in refused.stderr, refused.stderr


@pytest.mark.parametrize(
    "section, told",
    [
        ({"schedules": [{"name": "s", "every": "1h", "job": {"agent": "nobody"}}]}, "schedules: s: "),
        ({"schedules": [{"name": "s", "every": "1h", "job": {"graph": {"nodes": [{"id": "a"}]}}}]}, "/nodes/0"),
        ({"agents": [{"name": "a", "policy": "never"}]}, "agents: a: "),
    ],
)
def test_what_could_never_run_is_told_when_aether_starts(tmp_path, section, told):
    house = Jobs(tmp_path / "jobs", config(**section))
    house.start(wait=False)
    try:
        assert house.process.wait(60) == 1
        assert told in house.text() and "config-invalid" in house.text(), house.text()
    finally:
        house.stop()


def test_what_no_tool_or_record_can_take_is_refused_at_once(tmp_path):
    with Jobs(tmp_path / "jobs", config()) as house:
        nodes = [{"id": "a", "type": "tool", "tool": "htttp", "with": {}}]
        code, _, problem = house.request("POST", "/v1/jobs", {"graph": {"nodes": nodes}})
        assert code == 400 and "/nodes/0/tool" in problem["detail"], problem
        assert 'did you mean "http"' in problem["detail"], problem
        code, _, problem = house.request("POST", "/v1/jobs", {"goal": "say x", "input": [2**53 + 1]})
        assert code == 400 and str(2**53 + 1) in problem["detail"], problem
        file = tmp_path / "graph.json"
        file.write_text(json.dumps({"nodes": nodes}))
        done = house.cli("jobs", "submit", str(file))
        assert done.returncode == 1 and "/nodes/0/tool" in done.stderr, done.stderr
