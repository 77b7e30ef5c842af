# SPDX-License-Identifier: Apache-2.0
"""Programs of the distribution under Aether, with the command lines of docs/programs.md.

Those that take their listener are swapped under a load of new connections and lose none. Those that
bind their own port change in turn (`mode: run`), and keep what they keep on disk.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

from aether import BINARY, free_port
from programs import ASYNCIO, program, service

LOAD = os.environ.get("AETHER_LOAD", str(Path(__file__).parents[2] / "build" / "dev" / "bin" / "aether-load"))
SWAPS = 5

HAPROXY = """
global
  hard-stop-after 5s
defaults
  mode http
  timeout client 10s
  timeout server 10s
  timeout connect 10s
frontend web
  bind fd@${FD}
  http-request return status 200 content-type text/plain hdr X-Pid %pid string "ok"
"""

LIGHTTPD = """
server.document-root = "{folder}"
server.bind = "127.0.0.1"
server.port = {port}
server.systemd-socket-activation = "enable"
server.graceful-shutdown-timeout = 5
server.modules = ( "mod_setenv" )
index-file.names = ( "index.txt" )
setenv.add-response-header = ( "X-Pid" => env.AETHER_REVISION )
"""

WSGI = """
import os
def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "2"), ("X-Pid", str(os.getpid()))])
    return [b"ok"]
"""

PUMA = """
app { |env| [200, {"Content-Length" => "2", "X-Pid" => Process.pid.to_s}, ["ok"]] }
"""

UDP_ECHO = """
import os, signal, socket
server = socket.socket(fileno=3)
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
while True:
    data, peer = server.recvfrom(2048)
    server.sendto(data + b" %d" % os.getpid(), peer)
"""


def installed(name):
    """The program's path; a test without it is skipped."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if not path:
        pytest.skip(f"{name} is not installed")
    return path


def written(folder, name, text):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return str(folder / name)


def http_server(name, folder, port):
    """(command, further keys of the service, what makes it ready)."""
    if name == "haproxy":
        config = written(folder, "haproxy.cfg", HAPROXY)
        # Configuration files see variables, not {fd:web}; `env` passes it on and keeps the pid.
        command = ["env", "FD={fd:web}", installed("haproxy"), "-Ws", "-f", config]
        return command, {"stop_signal": "SIGUSR1", "ready": "notify"}, "notify"
    if name == "lighttpd":
        path = installed("lighttpd")
        written(folder, "index.txt", "ok")
        config = written(folder, "lighttpd.conf", LIGHTTPD.format(folder=folder, port=port))
        return [path, "-D", "-f", config], {"stop_signal": "SIGINT"}, "listening"
    if name == "uwsgi":
        path = installed("uwsgi-core")
        script = written(folder, "app.py", WSGI)
        # SIGHUP is its only graceful signal: with --exit-on-reload it then ends, not restarts.
        command = [path, "--plugin", "python3", "--master", "--exit-on-reload", "--http-socket", "fd://{fd:web}",
                   "--wsgi-file", script, "--disable-logging"]
        return command, {"stop_signal": "SIGHUP", "ready": "notify"}, "notify"
    assert name == "puma"
    config = written(folder, "puma.rb", PUMA)
    # The address must be the listener's, letter by letter: puma then takes the inherited one.
    command = [installed("puma"), "-C", config, "-b", f"tcp://127.0.0.1:{port}", "-e", "production"]
    # It says READY=1 only with the gem sd_notify, which Debian's puma does without.
    return command, {}, "listening"


def ready_by(aether):
    """What made each start ready, by Aether's own log."""
    return re.findall(r"ready .*\(pid \d+, ([^)]+)\)", aether.text())


def swap_all(aether, swaps=SWAPS):
    verdicts = [aether.reload() for _ in range(swaps)]
    assert all(isinstance(v, dict) and v["verdict"] == "succeeded" for v in verdicts), verdicts


def stops_cleanly(aether, folder):
    assert aether.stop() == 0, aether.text()
    assert "SIGKILL" not in aether.text(), aether.text()
    left = [p.name for p in Path("/proc").glob("[0-9]*") if str(folder).encode() in command_line(p)]
    assert not left, left


def command_line(process):
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize("name", ["haproxy", "lighttpd", "uwsgi", "puma"])
def test_a_server_that_takes_its_listener_loses_no_new_connection(start, tmp_path, name):
    port, folder = free_port(), tmp_path / "server"
    command, more, reason = http_server(name, folder, port)
    listen = [{"name": "web", "address": f"127.0.0.1:{port}"}]
    aether = start(service(command, listen=listen, soak="50ms", **more))
    assert reason in ready_by(aether)[0], aether.text()
    load = subprocess.Popen(
        [LOAD, f"127.0.0.1:{port}", "--clients", "4", "--rate", "500", "--seconds", "300", "--tally", "X-Pid"],
        stdout=subprocess.PIPE, text=True,
    )
    try:
        swap_all(aether)
    finally:
        load.send_signal(signal.SIGINT)
        result = json.loads(load.communicate(timeout=60)[0])
    assert result["failed"] == 0, result
    assert len(result["tally"]) >= SWAPS - 1, result
    stops_cleanly(aether, folder)


def redis(port, *words):
    """A command in Redis' inline protocol, and the first line of its answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(" ".join(words).encode() + b"\r\n")
        answer = connection.makefile("rb")
        head = answer.readline().strip()
        return answer.readline().strip() if head.startswith(b"$") and head != b"$-1" else head


def test_redis_is_ready_by_notify_and_keeps_its_data_over_swaps(start, tmp_path):
    path, port, folder = installed("redis-server"), free_port(), tmp_path / "redis"
    folder.mkdir()
    command = [path, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--supervised", "systemd",
               "--save", "3600", "1"]
    config = service(command, listen="none", ready="notify")
    config["orchestration"] = {"mode": "run"}
    aether = start(config)
    assert "notify" in ready_by(aether)[0], aether.text()
    assert redis(port, "SET", "key", "kept") == b"+OK"
    swap_all(aether)
    assert redis(port, "GET", "key") == b"kept"

    config["service"]["command"] = [*command, "--no-such-option", "1"]
    aether.write_config(config)
    swap = aether.reload()
    assert swap["verdict"] == "rolled-back", swap
    assert redis(port, "GET", "key") == b"kept"
    stops_cleanly(aether, folder)


def test_memcached_in_the_foreground_is_swapped_in_turn(start):
    path, port = installed("memcached"), free_port()
    command = [path, "-l", "127.0.0.1", "-p", str(port), "-U", "0"]
    if os.getuid() == 0:
        command += ["-u", "root"]
    config = service(command, listen="none", ready={"tcp": f"127.0.0.1:{port}"})
    config["orchestration"] = {"mode": "run"}
    aether = start(config)
    swap_all(aether)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"version\r\n")
        assert connection.recv(100).startswith(b"VERSION")
    assert aether.stop() == 0


@pytest.fixture
def database(tmp_path):
    """(folder of PostgreSQL's programs, data folder, user): a new database of this test."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: int(p.parts[-3]))
    if not found:
        pytest.skip("PostgreSQL is not installed")
    programs, user = found[-1].parent, "postgres" if os.getuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="ae-pg.", dir="/tmp"))  # a folder that the user postgres may enter
    if user:
        shutil.chown(folder, user)
    subprocess.run([programs / "initdb", "-D", folder / "data", "-A", "trust", "-U", "tester", "--no-sync"],
                   check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL)
    yield programs, folder, user
    shutil.rmtree(folder)


def test_postgresql_changes_in_turn_and_a_broken_configuration_is_rolled_back(start, database):
    programs, folder, user = database
    port = free_port()
    command = [str(programs / "postgres"), "-D", str(folder / "data"), "-p", str(port), "-h", "127.0.0.1",
               "-k", str(folder)]
    more = {"user": user, "workdir": str(folder)} if user else {}
    config = service(command, listen="none", ready="notify", stop_signal="SIGINT", stop_timeout="30s", **more)
    config["orchestration"] = {"mode": "run"}
    aether = start(config)
    assert "notify" in ready_by(aether)[0], aether.text()

    def sql(text):
        return subprocess.run([programs / "psql", "-h", "127.0.0.1", "-p", str(port), "-U", "tester", "-Atc", text,
                               "postgres"], check=True, capture_output=True, text=True).stdout.strip()

    sql("create table t as select 42 as answer")
    swap_all(aether)
    assert sql("select answer from t") == "42"

    config["service"]["command"] = [*command, "-c", "no_such_setting=1"]
    aether.write_config(config)
    swap = aether.reload()
    assert swap["verdict"] == "rolled-back", swap
    assert sql("select answer from t") == "42"
    stops_cleanly(aether, folder)


def test_memcached_that_becomes_a_daemon_is_not_left_behind(start):
    path, port = installed("memcached"), free_port()
    user = ["-u", "root"] if os.getuid() == 0 else []
    command = [path, "-d", "-l", "127.0.0.1", "-p", str(port), "-U", "0", *user]
    aether = start(service(command, listen="none"), wait=False)
    # What Aether started has ended; what it left in the background ends with it, and so does Aether.
    assert aether.process.wait(60) == 0, aether.text()
    assert "exited with code 0" in aether.text()
    left = [p.name for p in Path("/proc").glob("[0-9]*") if f"\0{port}\0".encode() in command_line(p)]
    assert not left, left


@pytest.fixture
def open_folder():
    """A folder that every user may enter; pytest's own are private."""
    folder = Path(tempfile.mkdtemp(prefix="ae-wrap.", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("wrapper", ["sh -c", "su"])
def test_a_program_behind_a_wrapper_gets_its_listener_by_aether_exec(start, open_folder, wrapper):
    checked = "import os, sys\nassert os.environ['LISTEN_PID'] == str(os.getpid()), 'LISTEN_PID'\n" + ASYNCIO
    folder = open_folder
    inner = " ".join(program(folder, "server.py", checked))
    aether_for_all = shutil.copy(BINARY, folder / "aether")  # where its user may run it
    line = f"{aether_for_all} exec -- {inner}; true"  # the shell stays, as the parent
    if wrapper == "su":
        if os.getuid() != 0:
            pytest.skip("only root can become another user")
        command = ["su", "-s", "/bin/sh", "nobody", "-c", line]
    else:
        command = ["sh", "-c", line]
    port = free_port()
    aether = start(service(command, listen=f"127.0.0.1:{port}", soak="50ms"))
    assert "listening" in ready_by(aether)[0], aether.text()
    load = subprocess.Popen([LOAD, f"127.0.0.1:{port}", "--clients", "4", "--rate", "500", "--seconds", "300",
                             "--tally", "X-Pid"], stdout=subprocess.PIPE, text=True)
    try:
        swap_all(aether)
    finally:
        load.send_signal(signal.SIGINT)
        result = json.loads(load.communicate(timeout=60)[0])
    assert result["failed"] == 0 and len(result["tally"]) >= SWAPS - 1, result
    stops_cleanly(aether, folder)


def test_a_udp_server_answers_each_datagram_over_swaps(start, tmp_path):
    port, stop, lost, pids = free_port(), threading.Event(), [], set()
    aether = start(service(program(tmp_path, "echo.py", UDP_ECHO), listen=f"udp://127.0.0.1:{port}", soak="50ms",
                           ready={"delay": "300ms"}))

    def ask():
        number = 0
        while not stop.is_set():
            number += 1
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.settimeout(10)
                client.sendto(b"%d" % number, ("127.0.0.1", port))
                try:
                    echoed, pid = client.recv(2048).split()
                    assert echoed == b"%d" % number
                    pids.add(pid)
                except TimeoutError:
                    lost.append(number)
            stop.wait(0.002)

    client = threading.Thread(target=ask)
    client.start()
    try:
        swap_all(aether)
    finally:
        stop.set()
        client.join()
    assert not lost and len(pids) == SWAPS + 1, (lost, pids)
    stops_cleanly(aether, tmp_path / "echo.py")
