# SPDX-License-Identifier: Apache-2.0
"""Programs that change their main process, go to the background, or would die of a signal."""

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from aether import PYTHON, eventually, free_port
from programs import ASYNCIO, program, service
from swaps import Rig


def need(name):
    return shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin") or pytest.fail(f"{name} is not installed")


def answers(port):
    """The answer to GET /, or None."""
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/")
        return connection.getresponse().read()
    except OSError:
        return None


def main_pid(aether):
    return aether.service()["pid"]


FORKS_ANEW = """
import os, signal, socket, sys, time
def notify(data):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.connect(os.environ["NOTIFY_SOCKET"])
        s.send(data)
def reexec(*_):
    heard, tell = os.pipe()
    child = os.fork()
    if child:
        os.read(heard, 1)  # Python forgets what signals come to a child that is just born.
        notify(b"MAINPID=%d" % child)
        os._exit(0)
    os.write(tell, b"1")
signal.signal(signal.SIGUSR2, reexec)
notify(b"READY=1")
while True: time.sleep(0.02)
"""


@pytest.mark.edge("G3")
def test_a_main_process_that_names_its_successor_may_go(start, tmp_path):
    aether = start(service(program(tmp_path, "forks.py", FORKS_ANEW), listen="none", ready="notify"))
    pids = [main_pid(aether)]
    for _ in range(3):
        os.kill(pids[-1], signal.SIGUSR2)
        pids.append(eventually(lambda: main_pid(aether) not in (None, pids[-1]) and main_pid(aether), "it is followed"))
        eventually(lambda: not Path(f"/proc/{pids[-2]}").exists(), "the one before is reaped")
    found = aether.service()
    assert (found["state"], found["restarts"]) == ("RUNNING", 0)
    os.kill(pids[-1], signal.SIGKILL)
    eventually(lambda: aether.service()["restarts"] == 1, "the successor's end is a crash")


@pytest.mark.edge("G3", "F11")
@pytest.mark.parametrize("number", ["1", "2", "999999", "-5", "0", "{other}"])
def test_a_main_process_that_is_not_of_the_program_is_not_followed(start, tmp_path, number):
    text = FORKS_ANEW.replace('notify(b"READY=1")', f'notify(b"MAINPID={number.format(other=os.getpid())}\\nREADY=1")')
    aether = start(service(program(tmp_path, "forks.py", text), listen="none", ready="notify"))
    pid = main_pid(aether)
    assert pid != os.getpid() and b"forks.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert aether.stop() is not None
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.edge("G3")
def test_nginx_replaces_its_own_master_by_usr2(start, tmp_path):
    port = free_port()
    nginx = need("nginx")
    pid_file = tmp_path / "nginx.pid"
    (tmp_path / "nginx.conf").write_text(
        f"pid {pid_file};\nerror_log stderr;\nevents {{}}\n"
        f"http {{ access_log off; client_body_temp_path {tmp_path}/b; proxy_temp_path {tmp_path}/p;\n"
        f"fastcgi_temp_path {tmp_path}/f; uwsgi_temp_path {tmp_path}/u; scgi_temp_path {tmp_path}/s;\n"
        f'server {{ listen 127.0.0.1:{port}; location / {{ return 200 "hello"; }} }} }}\n')
    # As a daemon, the only way in which nginx obeys USR2.
    aether = start(service([nginx, "-c", str(tmp_path / "nginx.conf")], listen="none", pid_file=str(pid_file),
                           stop_signal="QUIT", ready={"tcp": f"127.0.0.1:{port}"}))
    first = eventually(lambda: pid_file.exists() and pid_file.read_text().strip() == str(main_pid(aether))
                       and main_pid(aether), "the daemon is followed")
    assert answers(port) == b"hello"
    os.kill(first, signal.SIGUSR2)
    eventually(lambda: (tmp_path / "nginx.pid.oldbin").exists() and pid_file.exists()
               and pid_file.read_text().strip() not in ("", str(first)), "the second master runs")
    second = int(pid_file.read_text())
    os.kill(first, signal.SIGQUIT)
    eventually(lambda: main_pid(aether) == second, "the second master is followed")
    eventually(lambda: not Path(f"/proc/{first}").exists(), "the first one has ended")
    assert answers(port) == b"hello"
    assert aether.service()["restarts"] == 0
    assert aether.stop() is not None
    assert not Path(f"/proc/{second}").exists() and answers(port) is None


@pytest.mark.edge("G3")
def test_gunicorn_replaces_its_own_master_by_usr2(start, tmp_path):
    port = free_port()
    pid_file = tmp_path / "gunicorn.pid"
    (tmp_path / "app.py").write_text(
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Length', '5')])\n    return [b'hello']\n")
    aether = start(service([need("gunicorn"), "--bind", f"127.0.0.1:{port}", "--pid", str(pid_file), "app:app"],
                           listen="none", workdir=str(tmp_path), pid_file=str(pid_file),
                           ready={"tcp": f"127.0.0.1:{port}"}, stop_timeout="20s"))
    first = main_pid(aether)
    os.kill(first, signal.SIGUSR2)
    second_file = tmp_path / "gunicorn.pid.2"
    eventually(lambda: second_file.exists() and second_file.read_text().strip(), "the second master runs")
    second = int(second_file.read_text())
    os.kill(first, signal.SIGTERM)
    eventually(lambda: main_pid(aether) == second, "the second master is followed")
    eventually(lambda: answers(port) == b"hello", "it answers")
    assert aether.service()["restarts"] == 0


@pytest.mark.edge("G4")
def test_memcached_as_a_daemon_is_followed_by_its_pid_file(start, tmp_path):
    port = free_port()
    pid_file = tmp_path / "memcached.pid"
    command = [need("memcached"), "-d", "-l", "127.0.0.1", "-p", str(port), "-P", str(pid_file)]
    if os.geteuid() == 0:
        command += ["-u", "root"]
    aether = start(service(command, listen="none", pid_file=str(pid_file)))
    pid = int(eventually(lambda: pid_file.exists() and pid_file.read_text().strip(), "it wrote its pid"))
    assert main_pid(aether) == pid
    def version():
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(b"version\r\n")
            return connection.recv(100)
    assert version().startswith(b"VERSION")
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: aether.service()["restarts"] == 1 and main_pid(aether) not in (None, pid), "it is started again")
    aether.stop()
    assert not subprocess.run(["pgrep", "-f", str(pid_file)], capture_output=True).stdout


@pytest.mark.edge("G4")
def test_a_daemon_without_a_pid_file_is_refused_with_what_to_do(tmp_path):
    with Rig(tmp_path) as rig:
        rig.script.write_text("import os, time\nif os.fork(): os._exit(0)\nos.setsid()\ntime.sleep(600)")
        rig.refuses_and_serves_on("background", "foreground", "pid_file:")


@pytest.mark.edge("G4")
def test_a_daemon_that_names_a_stranger_is_ended_at_its_deadline(tmp_path):
    with Rig(tmp_path) as rig:
        pid_file = tmp_path / "x.pid"
        pid_file.write_text(f"{os.getpid()}\n")
        rig.script.write_text("import os, time\nif os.fork(): os._exit(0)\nos.setsid()\ntime.sleep(600)")
        rig.change(service={"pid_file": str(pid_file), "ready": {"timeout": "1s"}})
        rig.refuses_and_serves_on("background", "x.pid")


@pytest.mark.edge("G1")
def test_a_signal_that_would_end_a_program_is_not_passed_on(tmp_path):
    with Rig(tmp_path) as rig:
        old = rig.pid()
        rig.aether.process.send_signal(signal.SIGUSR1)
        eventually(lambda: "SIGUSR1" in rig.aether.text() and "no handler" in rig.aether.text(), "the reason is told")
        assert rig.pid() == old
        rig.script.write_text("import os, signal\nsignal.signal(signal.SIGUSR1, lambda *_: print('usr1', flush=True))\n"
                              + ASYNCIO)
        assert rig.aether.reload()["verdict"] == "succeeded"
        rig.until("idle")
        rig.aether.process.send_signal(signal.SIGUSR1)
        eventually(lambda: "usr1" in rig.aether.text(), "one that expects it gets it")


@pytest.mark.edge("G2")
def test_processes_are_signalled_by_what_cannot_be_reused():
    """No kill() by number: a number may be a stranger's by the time the signal arrives."""
    root = Path(__file__).resolve().parents[2] / "src"
    calls = [f"{path.relative_to(root)}: {line.strip()}"
             for path in root.glob("**/*.cc") if not path.name.endswith("_test.cc")
             for line in path.read_text().splitlines()
             if re.search(r"(?<!\w)(::kill|::killpg|::tgkill|SYS_kill|SYS_tgkill)\b", line)]
    assert not calls, calls


def test_hooks_know_the_main_process_and_how_a_revision_ended(tmp_path):
    notes = tmp_path / "notes"
    text = ("import os\n"
            f"with open({str(notes)!r}, 'a') as out:\n"
            "    print(*(f'{n}={os.environ.get(n)}' for n in "
            "('MAINPID', 'SERVICE_RESULT', 'EXIT_CODE', 'EXIT_STATUS')), file=out)\n")
    (tmp_path / "note.py").write_text(text)
    hook = {"name": "note", "command": [PYTHON, str(tmp_path / "note.py")]}
    with Rig(tmp_path, orchestration={"soak_time": "0s", "pre_flight": [hook],
                                      "post_process": {"on_success": [hook], "on_failure": [hook]}}) as rig:
        old = rig.pid()
        rig.script.write_text("raise SystemExit(3)")
        assert rig.aether.reload()["verdict"] == "rolled-back"
        told = eventually(lambda: notes.exists() and len(notes.read_text().splitlines()) == 2
                          and notes.read_text().splitlines(), "both hooks ran")
        assert told == [f"MAINPID={old} SERVICE_RESULT=None EXIT_CODE=None EXIT_STATUS=None",
                        f"MAINPID={old} SERVICE_RESULT=exit-code EXIT_CODE=exited EXIT_STATUS=3"]
        rig.script.write_text(ASYNCIO)
        swap = rig.aether.reload()
        told = eventually(lambda: len(notes.read_text().splitlines()) == 4 and notes.read_text().splitlines(), "again")
        assert told[3] == f"MAINPID={swap['pid']} SERVICE_RESULT=success EXIT_CODE=None EXIT_STATUS=None"
