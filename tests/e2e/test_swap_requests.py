# SPDX-License-Identifier: Apache-2.0
"""Asking for swaps: wrongly, twice, in bursts, too early; and stopping in the midst of one."""

import os
import signal
import socket
import subprocess
import time

import pytest

from aether import Aether, PYTHON, eventually, free_port
from programs import ASYNCIO, COUNTER, program
from swaps import Rig, processes_of

SLOW_START = "import time; time.sleep(1.5)\n" + ASYNCIO


# ---- a configuration that is no good


def test_bad_yaml_at_reload_is_answered_with_its_place_and_the_old_one_serves_on(tmp_path):
    with Rig(tmp_path) as rig:
        old = rig.pid()
        cases = {
            "service: [unclosed\n": "aeterna.yaml:",
            f"service:\n  name: web\n  command: ['x']\n  lisen: '127.0.0.1:{rig.port}'\n": "aeterna.yaml:4:3",
            "service:\n  name: web\n  command: ['x']\norchestration:\n  soak_time: never\n": "aeterna.yaml:5:14",
        }
        for text, place in cases.items():
            rig.aether.write_config(text)
            code, problem = rig.aether.reload()
            assert code == 422 and problem["code"] == "config-invalid", problem
            assert place in problem["detail"], problem
            done = rig.aether.cli("reload")
            assert done.returncode == 1 and place in done.stderr, done.stderr
            rig.aether.hangup()
            eventually(lambda: "reload refused, the old configuration stays" in rig.aether.text(), "it is logged")
            assert rig.pid() == old
        assert "listen" in rig.aether.text(), "the nearest key is suggested"
        rig.aether.config.unlink()
        assert rig.aether.reload()[0] == 422
        rig.serves_on(old)


def test_a_service_that_does_not_exist_is_not_found(tmp_path):
    with Rig(tmp_path) as rig:
        code, problem = rig.aether.reload("wep")
        assert (code, problem["code"]) == (404, "service-unknown")
        assert "web" in problem["detail"], problem


def test_a_port_in_use_at_start_is_refused_with_its_holder(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        config = {"service": {"name": "web", "command": program(tmp_path, "agent.py", ASYNCIO), "listen": address},
                  "observability": {"metrics_port": "none"}}
        aether = Aether(tmp_path / "a", config).start(wait=False)
        assert aether.process.wait(60) == 1
        assert address in aether.text() and str(os.getpid()) in aether.text(), aether.text()
        aether.stop()


# ---- several at once


def test_a_reload_during_a_swap_is_refused_with_its_phase(tmp_path):
    with Rig(tmp_path, soak="30s") as rig:
        assert rig.aether.ask("POST", "/v1/reload", {})[0] == 202
        rig.until("soaking")
        code, problem = rig.aether.reload()
        assert (code, problem["code"]) == (409, "swap-running")
        assert "soaking" in problem["detail"] and "--force" in problem["detail"]
        done = rig.aether.cli("reload")
        assert done.returncode == 1 and "soaking" in done.stderr


@pytest.mark.edge("B10")
def test_force_takes_the_place_of_the_swap_that_runs(tmp_path):
    with Rig(tmp_path, soak="30s") as rig:
        old = rig.pid()
        first = rig.aether.ask("POST", "/v1/reload", {})[1]["swaps"][0]
        rig.until("soaking")
        rig.good_config["orchestration"]["soak_time"] = "100ms"
        rig.mend()
        swap = rig.aether.reload(force=True, reason="urgent")
        assert swap["verdict"] == "succeeded" and swap["reason"] == "urgent", swap
        assert rig.pid() == swap["pid"] != old
        superseded = rig.aether.ask("GET", f"/v1/services/web/swaps/{first['swap']}")[1]["swaps"][0]
        assert superseded["verdict"] == "rolled-back" and "superseded" in superseded["why"]


@pytest.mark.edge("B10")
def test_a_burst_of_hangups_is_one_swap_and_at_most_one_more(tmp_path):
    with Rig(tmp_path, soak="300ms") as rig:
        old = rig.pid()
        for _ in range(20):
            rig.aether.hangup()
        eventually(lambda: rig.aether.service()["revision"] > 1 and rig.phase() == "idle", "the swaps are over")
        time.sleep(0.2)  # nothing more may begin by itself
        service = rig.aether.service()
        assert service["phase"] == "idle" and service["revision"] <= 3, service
        assert rig.pid() == service["pid"] != old
        assert processes_of(tmp_path) == [service["pid"]]


@pytest.mark.edge("B10")
def test_hangups_in_every_phase_end_with_the_last_configuration(tmp_path):
    with Rig(tmp_path, soak="300ms") as rig:
        rig.aether.hangup()
        for phase in ("launching", "soaking"):
            rig.until(phase)
            rig.aether.hangup()
        rig.change(service={"env": {"LAST": "yes"}})
        rig.aether.hangup()
        eventually(lambda: rig.phase() == "idle" and b"LAST=yes" in environment(rig.pid()), "the last one serves")
        rig.until("idle")


def environment(pid):
    with open(f"/proc/{pid}/environ", "rb") as file:
        return file.read()


@pytest.mark.edge("B11")
def test_a_hangup_right_after_the_start_is_not_lost_and_not_deadly(tmp_path):
    rig = Rig(tmp_path)
    rig.script.write_text(SLOW_START)
    rig.aether.start(wait=False)
    try:
        eventually(lambda: "Starting service" in rig.aether.text(), "it begins to start")
        rig.aether.hangup()
        eventually(lambda: rig.aether.control_ready() and rig.aether.service()["revision"] == 2, "revision 2 serves")
        rig.until("idle")
        assert rig.pid() == rig.aether.service()["pid"]
    finally:
        rig.aether.stop()
    assert not processes_of(tmp_path)


@pytest.mark.edge("H1")
def test_a_client_that_goes_away_does_not_end_the_swap_it_asked_for(tmp_path):
    with Rig(tmp_path, soak="500ms") as rig:
        asking = subprocess.Popen([str(rig.aether.binary), "-c", str(rig.aether.config), "reload"], env=rig.aether.env,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        rig.until("soaking")
        asking.kill()
        asking.wait()
        rig.until("idle")
        assert rig.aether.service()["revision"] == 2


# ---- stopping in the midst


def slow_hook(folder):
    path = folder / "slow.py"
    path.write_text("import time; time.sleep(600)")
    return {"name": "slow", "command": [PYTHON, str(path)]}


DEAF = ASYNCIO.replace("signal.SIGTERM, stop.set", "signal.SIGTERM, lambda: None")
STOPS = {
    "preflight": lambda rig: rig.change(orchestration={"pre_flight": [slow_hook(rig.folder)]}),
    "launching": lambda rig: rig.script.write_text("import time; time.sleep(600)"),
    "soaking": lambda rig: rig.change(orchestration={"soak_time": "600s"}),
}


@pytest.mark.edge("B10")
@pytest.mark.parametrize("phase", STOPS)
def test_sigterm_ends_everything_in_the_phase(tmp_path, phase):
    with Rig(tmp_path) as rig:
        STOPS[phase](rig)
        assert rig.aether.ask("POST", "/v1/reload", {})[0] == 202
        rig.until(phase)
        assert_stops(rig, within=2)


def test_sigterm_ends_everything_while_the_old_one_drains(tmp_path):
    with Rig(tmp_path) as rig:
        rig.script.write_text(DEAF)
        rig.good_config["service"]["stop_timeout"] = "1s"
        rig.change()
        assert rig.aether.reload()["verdict"] == "succeeded"
        rig.until("idle")
        rig.mend()
        assert rig.aether.ask("POST", "/v1/reload", {})[0] == 202
        rig.until("draining")  # the old one hears no SIGTERM; drain.timeout is 30s
        assert_stops(rig, within=2)


def test_sigterm_ends_everything_while_memory_is_handed_over(tmp_path):
    with Rig(tmp_path, handoff={"timeout": "30s"}) as rig:
        hangs = "import time\nclient.on_handoff(lambda: time.sleep(600))\n"
        before, serve, after = COUNTER.partition("HTTPServer(client")
        rig.script.write_text(before + hangs + serve + after)
        assert rig.aether.reload()["verdict"] == "succeeded"
        rig.until("idle")
        assert rig.aether.ask("POST", "/v1/reload", {})[0] == 202
        rig.until("handoff")
        assert_stops(rig, within=2)


def test_a_second_sigterm_hurries(tmp_path):
    with Rig(tmp_path) as rig:
        rig.script.write_text(DEAF)
        rig.good_config["service"]["stop_timeout"] = "60s"
        rig.change()
        assert rig.aether.reload()["verdict"] == "succeeded"
        rig.until("idle")
        rig.aether.process.send_signal(signal.SIGTERM)
        eventually(lambda: "stopping" in rig.aether.text(), "it stops")
        time.sleep(0.1)
        assert_stops(rig, within=0)


def assert_stops(rig, within):
    """SIGTERM now: Aether ends within the service's stop_timeout, and nothing is left."""
    began = time.monotonic()
    rig.aether.process.send_signal(signal.SIGTERM)
    rig.aether.process.wait(60)
    took = time.monotonic() - began
    assert took < within + 5, f"it took {took:.1f}s"  # 5 s: a busy machine under a sanitizer
    assert not processes_of(rig.folder)
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", rig.port), timeout=5)
