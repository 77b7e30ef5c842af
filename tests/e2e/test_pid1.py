# SPDX-License-Identifier: Apache-2.0
"""The duties of a supervisor and of PID 1: orphans, signals, exit codes, crashes, order, logs."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from aether import Aether, eventually
from programs import program, service


def processes_with(text):
    """Pids whose command line holds `text`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if text.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            pass
    return found


def zombies_of(pid):
    children = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] == "Z" and int(fields[1]) == pid:
            children.append(int(entry.name))
    return children


@pytest.mark.edge("F1")
def test_orphans_are_reaped_and_leave_no_zombie(start, tmp_path):
    text = """
import os, sys, time
for _ in range(200):
    if os.fork() == 0:
        if os.fork() == 0:
            os._exit(0)
        os._exit(0)
    os.wait()
print("orphaned", flush=True)
time.sleep(3600)
"""
    aether = start(service(program(tmp_path, "forks.py", text), listen="none"))
    eventually(lambda: "orphaned" in aether.cli("logs").stdout, "the program has made its orphans")
    eventually(lambda: not zombies_of(aether.pid), "no zombie is left")
    assert aether.service()["state"] == "RUNNING"
    assert aether.service()["restarts"] == 0


@pytest.mark.parametrize("code", [0, 1, 3, 77, 255])
def test_the_exit_code_is_the_main_services(tmp_path, code):
    command = program(tmp_path, "ends.py", f"import time, sys; time.sleep(0.3); sys.exit({code})")
    aether = Aether(tmp_path / "a", service(command, listen="none", restart="never")).start(wait=False)
    assert aether.process.wait(60) == code, aether.text()
    aether.stop()


@pytest.mark.edge("F5")
def test_a_program_ended_by_a_signal_gives_128_plus_its_number(tmp_path):
    command = program(tmp_path, "dies.py", "import os, time; time.sleep(0.3); os.kill(os.getpid(), 9)")
    aether = Aether(tmp_path / "a", service(command, listen="none", restart="never")).start(wait=False)
    assert aether.process.wait(60) == 137, aether.text()
    aether.stop()


@pytest.mark.edge("F5")
def test_a_stop_ends_the_whole_tree_and_returns_zero(tmp_path):
    marker = f"marker-{os.getpid()}-{time.monotonic_ns()}"
    text = f"""
import subprocess, sys, time
for _ in range(3):
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)", "{marker}"], start_new_session=True)
print("up", flush=True)
time.sleep(3600)
"""
    aether = Aether(tmp_path / "a", service(program(tmp_path, "tree.py", text), listen="none"))
    aether.start()
    eventually(lambda: len(processes_with(marker)) >= 3, "the tree is there")
    assert aether.stop() == 0
    assert not processes_with(marker)


@pytest.mark.edge("C3", "F5")
def test_a_child_that_ignores_sigterm_is_killed_at_its_stop_timeout(tmp_path):
    text = ("import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
            "print('up', flush=True); time.sleep(3600)")
    command = program(tmp_path, "stubborn.py", text)
    aether = Aether(tmp_path / "a", service(command, listen="none", stop_timeout="500ms")).start()
    eventually(lambda: "up" in aether.cli("logs").stdout, "it ignores SIGTERM now")
    pid = aether.service()["pid"]
    assert aether.stop() == 0
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.edge("C3")
def test_a_stopped_child_is_killed_all_the_same(tmp_path):
    command = program(tmp_path, "sleeps.py", "import time; time.sleep(3600)")
    aether = Aether(tmp_path / "a", service(command, listen="none", stop_timeout="500ms")).start()
    pid = aether.service()["pid"]
    os.kill(pid, signal.SIGSTOP)
    assert aether.stop() == 0
    assert not Path(f"/proc/{pid}").exists()


def test_a_second_sigterm_hurries(tmp_path):
    text = ("import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
            "print('up', flush=True); time.sleep(3600)")
    command = program(tmp_path, "stubborn.py", text)
    aether = Aether(tmp_path / "a", service(command, listen="none", stop_timeout="1h")).start()
    eventually(lambda: "up" in aether.cli("logs").stdout, "it ignores SIGTERM now")
    aether.process.send_signal(signal.SIGTERM)
    eventually(lambda: "stopping" in aether.text(), "the first SIGTERM was taken")
    aether.process.send_signal(signal.SIGTERM)
    assert aether.process.wait(60) == 0
    aether.stop()


def test_user_signals_are_passed_on_to_the_main_process(start, tmp_path):
    text = """
import signal, time
signal.signal(signal.SIGUSR1, lambda *_: print("got USR1", flush=True))
print("up", flush=True)
while True: time.sleep(1)
"""
    aether = start(service(program(tmp_path, "listens.py", text), listen="none"))
    eventually(lambda: "up" in aether.cli("logs").stdout, "its handler is set")
    aether.process.send_signal(signal.SIGUSR1)
    eventually(lambda: "got USR1" in aether.cli("logs").stdout, "the signal arrived")


def test_a_crashed_service_is_started_again_and_its_queue_is_answered(start, tmp_path):
    import http.client

    text = """
import os, socket
listener = socket.socket(fileno=3)
while True:
    connection, _ = listener.accept()
    request = connection.recv(65536)
    if b"/crash" in request: os._exit(9)
    body = str(os.getpid()).encode()
    connection.sendall(b"HTTP/1.0 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n%s" % (len(body), body))
    connection.close()
"""
    aether = start(service(program(tmp_path, "web.py", text), listen=["127.0.0.1:0"]))
    host, _, port = aether.service()["listeners"][0]["address"].rpartition(":")

    def ask(path):
        connection = http.client.HTTPConnection(host, int(port), timeout=60)
        connection.request("GET", path)
        return int(connection.getresponse().read())

    first = ask("/")
    with pytest.raises((OSError, http.client.HTTPException)):
        ask("/crash")
    # Asked while nothing runs: the connection waits in the queue that Aether holds.
    second = ask("/")
    assert second != first
    assert aether.service()["restarts"] == 1


def test_a_crash_loop_ends_in_failed_and_a_reload_mends_it(start, tmp_path):
    program(tmp_path, "svc.py", "import sys; print('broken', flush=True); sys.exit(1)")
    config = service(
        ["/usr/bin/python3", str(tmp_path / "svc.py")],
        listen="none",
        restart={"policy": "always", "backoff": {"min": "10ms", "max": "20ms"}, "crash_loop": {"count": 3}},
    )
    aether = start(config, wait=False)
    failed = eventually(
        lambda: aether.control_ready() and "crash loop" in (aether.service()["problem"] or ""), "the loop is noticed"
    )
    assert failed
    assert aether.ask("GET", "/health")[0] == 503
    program(tmp_path, "svc.py", "import time; time.sleep(3600)")
    swap = aether.reload()
    assert swap["verdict"] == "succeeded", swap
    assert aether.service()["state"] in ("RUNNING", "DRAINING")
    assert aether.ask("GET", "/health")[0] == 200


def test_services_start_after_those_they_name_and_stop_before_them(start, tmp_path):
    text = "import time; print('up', flush=True); time.sleep(3600)"
    command = program(tmp_path, "one.py", text)
    config = {
        "services": [
            {"name": "third", "command": command, "listen": "none", "after": ["second"]},
            {"name": "second", "command": command, "listen": "none", "after": ["first"]},
            {"name": "first", "command": command, "listen": "none", "ready": {"delay": "200ms"}},
        ],
        "observability": {"metrics_port": "none"},
    }
    aether = start(config)
    eventually(lambda: all(s["state"] == "RUNNING" for s in aether.status()["services"]), "all run")
    started = [line.split()[2].rstrip(":") for line in aether.text().splitlines() if " started (pid" in line]
    assert started == ["first", "second", "third"]


@pytest.mark.edge("H4")
def test_log_lines_come_whole_and_in_order_with_service_and_revision(start, tmp_path):
    text = """
import sys, time
for n in range(5000): print("line", n)
sys.stdout.write("no newline at the end")
sys.stdout.flush()
time.sleep(3600)
"""
    aether = start(service(program(tmp_path, "talks.py", text), name="talker", listen="none"))
    eventually(lambda: "line 4999" in aether.cli("logs", "-n", "10").stdout, "all was said")
    lines = [line.split("] ", 1)[1] for line in aether.cli("logs", "-n", "6000").stdout.splitlines()]
    assert [line for line in lines if line.startswith("line")] == [f"line {n}" for n in range(5000)]
    assert "[talker r1]" in aether.cli("logs").stdout


@pytest.mark.edge("F1", "F5")
@pytest.mark.skipif(os.geteuid() != 0, reason="a PID namespace needs root")
def test_as_pid_1_of_a_container_it_reaps_forwards_and_ends(tmp_path):
    text = """
import os, time
for _ in range(50):
    if os.fork() == 0:
        if os.fork() == 0: time.sleep(0.05)
        os._exit(0)
    os.wait()
time.sleep(0.5)
zombies = [p for p in os.listdir("/proc") if p.isdigit()
           and open(f"/proc/{p}/stat").read().rpartition(")")[2].split()[0] == "Z"]
print("parent", os.getppid(), "zombies", len(zombies), flush=True)
raise SystemExit(5)
"""
    aether = Aether(tmp_path / "a", service(program(tmp_path, "in.py", text), listen="none", restart="never"))
    ran = subprocess.run(
        ["unshare", "-pf", "--mount-proc", *aether.command],
        env=aether.env, capture_output=True, text=True, timeout=60, check=False,
    )
    aether.stop()
    assert "parent 1 zombies 0" in ran.stdout, ran.stdout + ran.stderr
    assert ran.returncode == 5
