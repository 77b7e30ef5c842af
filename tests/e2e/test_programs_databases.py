# SPDX-License-Identifier: Apache-2.0
"""Programs that bind their own port, one at a time: the old one stops, then the new one starts.

What each keeps on disk is there after every swap; a broken revision gives way to the one before; and with a
proxy that takes its listener in front, clients wait for the swap instead of being refused.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

from aether import eventually, free_port
from programs import service
from under_load import installed, processes_with, ready_by, soak, stops_cleanly, swap_all, written

SWAPS = soak(3)


def one_at_a_time(command, **more):
    config = service(command, listen="none", **more)
    config["orchestration"] = {"mode": "run"}
    return config


def redis(port, *words):
    """A command in Redis' inline protocol, and the first line of its answer; None if it was closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(" ".join(words).encode() + b"\r\n")
        answer = connection.makefile("rb")
        head = answer.readline().strip()
        return answer.readline().strip() if head.startswith(b"$") and head != b"$-1" else head or None


def redis_command(folder, port):
    folder.mkdir()
    return [installed("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder),
            "--supervised", "systemd", "--save", "3600", "1"]


def test_redis_is_ready_by_notify_and_keeps_its_data_over_swaps(start, tmp_path):
    port, folder = free_port(), tmp_path / "redis"
    command = redis_command(folder, port)
    config = one_at_a_time(command, ready="notify")
    aether = start(config)
    assert "notify" in ready_by(aether)[0], aether.text()
    assert redis(port, "SET", "key", "kept") == b"+OK"
    swap_all(aether, SWAPS)
    assert redis(port, "GET", "key") == b"kept"

    config["service"]["command"] = [*command, "--no-such-option", "1"]
    aether.write_config(config)
    swap = aether.reload()
    assert swap["verdict"] == "rolled-back", swap
    assert redis(port, "GET", "key") == b"kept"
    stops_cleanly(aether, folder)


# Tries again for as long as a swap takes; a connection waits meanwhile.
REDIS_FRONT = """
defaults
  mode tcp
  timeout connect 1s
  timeout client 60s
  timeout server 60s
  retries 60
frontend redis
  bind fd@${FD}
  default_backend redis
backend redis
  server redis 127.0.0.1:PORT
"""


def test_clients_of_redis_behind_haproxy_wait_for_the_swap_and_none_is_refused(start, tmp_path):
    port, inner, folder = free_port(), free_port(), tmp_path / "redis"
    front = written(tmp_path, "front.cfg", REDIS_FRONT.replace("PORT", str(inner)))
    haproxy = ["env", "FD={fd:redis}", installed("haproxy"), "-Ws", "-f", front]
    config = {
        "services": [
            {"name": "redis", "command": redis_command(folder, inner), "listen": "none", "ready": "notify",
             "orchestration": {"mode": "run"}},
            {"name": "front", "command": haproxy, "listen": {"name": "redis", "address": f"127.0.0.1:{port}"},
             "ready": "notify", "stop_signal": "SIGUSR1", "after": ["redis"]},
        ],
        "observability": {"metrics_port": "none"},
    }
    aether = start(config)
    stop, refused, closed, counted = threading.Event(), [], [], []

    def count():
        while not stop.is_set():
            try:
                answer = redis(port, "INCR", "counter")
            except ConnectionRefusedError as error:
                refused.append(error)
            except OSError:
                closed.append(1)
            else:
                (counted if answer and answer.startswith(b":") else closed).append(answer)
            stop.wait(0.002)

    clients = [threading.Thread(target=count) for _ in range(4)]
    for client in clients:
        client.start()
    try:
        eventually(lambda: len(counted) > 50, "redis is counting")
        for _ in range(SWAPS):
            swap_all(aether, 1, "redis")
            before = len(counted)
            eventually(lambda: len(counted) > before + 50, "redis counts after the swap")  # noqa: B023
    finally:
        stop.set()
        for client in clients:
            client.join()
    assert not refused
    # What was accepted just as redis stopped may be cut: at most what each client had open at each swap.
    assert len(closed) <= len(clients) * SWAPS, (len(closed), len(counted))
    assert int(redis(port, "GET", "counter")) >= len(counted)  # each counted update was saved and loaded
    stops_cleanly(aether, folder)


def memcached(port, *more):
    command = [installed("memcached"), *more, "-l", "127.0.0.1", "-p", str(port), "-U", "0"]
    return [*command, "-u", "root"] if os.getuid() == 0 else command


def greets(port, asked, expected):
    """Whether whoever is at the port answers what was asked so."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(asked)
        return connection.recv(4096).startswith(expected)


def own_port(name, port):
    """(command, further keys, what a client asks, how the answer begins)."""
    if name == "memcached":
        return memcached(port), {"ready": {"tcp": f"127.0.0.1:{port}"}}, b"version\r\n", b"VERSION"
    if name == "nats":
        # SIGUSR2 is its lame duck mode; SIGTERM ends it at once.
        command = [installed("nats-server"), "-a", "127.0.0.1", "-p", str(port)]
        return command, {"ready": {"tcp": f"127.0.0.1:{port}"}}, b"PING\r\n", b"INFO"
    assert name == "mosquitto"
    connect = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a"
    return [installed("mosquitto"), "-p", str(port)], {"ready": "notify"}, connect, b"\x20\x02\x00\x00"


@pytest.mark.parametrize("name", ["memcached", "nats", "mosquitto"])
def test_a_program_that_binds_its_own_port_is_swapped_in_turn(start, name):
    port = free_port()
    command, more, asked, expected = own_port(name, port)
    aether = start(one_at_a_time(command, **more))
    for _ in range(SWAPS):
        assert greets(port, asked, expected), aether.text()
        swap_all(aether, 1)
    assert greets(port, asked, expected), aether.text()
    stops_cleanly(aether, f"\0{port}\0")


@pytest.mark.edge("G4")
def test_memcached_that_becomes_a_daemon_is_not_left_behind(start):
    port = free_port()
    aether = start(service(memcached(port, "-d"), listen="none"), wait=False)
    # What Aether started has ended; what it left in the background ends with it, and so does Aether.
    assert aether.process.wait(60) == 0, aether.text()
    assert "exited with code 0" in aether.text()
    assert not processes_with(f"\0{port}\0")


@pytest.mark.edge("G4")
def test_memcached_that_becomes_a_daemon_is_followed_by_its_pid_file(start, tmp_path):
    port, file = free_port(), tmp_path / "memcached.pid"
    command = memcached(port, "-d", "-P", str(file))
    aether = start(one_at_a_time(command, pid_file=str(file), ready={"tcp": f"127.0.0.1:{port}"}))
    for _ in range(2):
        eventually(lambda: file.exists() and file.read_text() == f"{aether.service()['pid']}\n", "it is followed")
        assert greets(port, b"version\r\n", b"VERSION")
        swap_all(aether, 1)
    stops_cleanly(aether, f"\0{port}\0")


class Database:
    """A new PostgreSQL of this test, in a folder that its user may enter."""

    def __init__(self, programs, folder, user):
        self.programs, self.folder, self.user, self.port = programs, folder, user, free_port()
        self.command = [str(programs / "postgres"), "-D", str(folder / "data"), "-p", str(self.port),
                        "-h", "127.0.0.1", "-k", str(folder)]
        self.more = {"user": user, "workdir": str(folder)} if user else {}

    def config(self, command=None, **more):
        keys = {"ready": "notify", "stop_signal": "SIGINT", "stop_timeout": "30s", **(more or self.more)}
        return one_at_a_time(command or self.command, **keys)

    def sql(self, text, port=None):
        command = [self.programs / "psql", "-h", "127.0.0.1", "-p", str(port or self.port), "-U", "tester", "-Atc",
                   text, "postgres"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def database():
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: int(p.parts[-3]))
    if not found:
        pytest.skip("PostgreSQL is not installed")
    programs, user = found[-1].parent, "postgres" if os.getuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="ae-pg.", dir="/tmp"))
    if user:
        shutil.chown(folder, user)
    subprocess.run([programs / "initdb", "-D", folder / "data", "-A", "trust", "-U", "tester", "--no-sync"],
                   check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL)
    yield Database(programs, folder, user)
    shutil.rmtree(folder)


def test_postgresql_stops_fast_and_a_broken_revision_gives_way_to_the_one_before(start, database):
    aether = start(database.config())
    assert "notify" in ready_by(aether)[0], aether.text()
    database.sql("create table t as select 42 as answer")
    psql = [database.programs / "psql", "-h", "127.0.0.1", "-p", str(database.port), "-U", "tester", "postgres"]
    with subprocess.Popen(psql, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as client:
        client.stdin.write(b"begin; select 'open';\n")
        client.stdin.flush()
        while b"open" not in client.stdout.readline():
            pass
        # SIGTERM would wait for this client until stop_timeout; SIGINT does not.
        swap_all(aether, SWAPS)
        client.communicate()
    assert database.sql("select answer from t") == "42"

    aether.write_config(database.config([*database.command, "-c", "no_such_setting=1"]))
    swap = aether.reload()
    assert swap["verdict"] == "rolled-back" and "no_such_setting" in swap["why"], swap
    assert database.sql("select answer from t") == "42"
    stops_cleanly(aether, database.folder)


def test_two_postgresql_on_one_folder_are_refused_by_its_lock_and_the_old_one_serves_on(start, database):
    config = database.config()
    config["orchestration"] = {"mode": "immediate"}  # both at once: a mistake with a database
    aether = start(config)
    before = aether.service()["pid"]
    swap = aether.reload()
    assert swap["verdict"] == "rolled-back" and "postmaster.pid" in swap["why"], swap
    assert database.sql("select 1") == "1" and aether.service()["pid"] == before
    stops_cleanly(aether, database.folder)


@pytest.mark.edge("B7")
def test_postgresql_below_su_says_ready_by_itself(start, database):
    if not database.user:
        pytest.skip("only root can become another user with su")
    # su starts a shell that starts the server: what says READY=1 is not what Aether started.
    line = " ".join(database.command) + "; true"
    aether = start(database.config(["su", "-s", "/bin/sh", database.user, "-c", line], stop_signal="SIGTERM"))
    assert "notify" in ready_by(aether)[0], aether.text()
    swap_all(aether, 1)
    assert database.sql("select 1") == "1"
    assert aether.stop() == 0, aether.text()
    eventually(lambda: not processes_with(database.folder), "nothing is left")


PGBOUNCER = """
[databases]
postgres = host=127.0.0.1 port={database} user=tester
[pgbouncer]
listen_addr =
unix_socket_dir =
auth_type = any
pool_mode = transaction
admin_users = tester
server_login_retry = 1
"""


def test_postgresql_behind_pgbouncer_changes_between_two_transactions_and_none_fails(start, database):
    """PAUSE waits for the transactions that run and holds the next ones; RESUME lets them go."""
    port = free_port()
    bouncer = written(database.folder, "pgbouncer.ini", PGBOUNCER.format(database=database.port))

    def say(word):
        psql = [str(database.programs / "psql"), "-h", "127.0.0.1", "-p", str(port), "-U", "tester"]
        return [{"name": word, "command": [*psql, "-c", word, "pgbouncer"]}]

    rules = {"mode": "run", "pre_flight": say("PAUSE"),
             "post_process": {"on_success": say("RESUME"), "on_failure": say("RESUME")}}
    keys = {"ready": "notify", "stop_signal": "SIGINT", **database.more}
    front = {"name": "pgbouncer", "command": [installed("pgbouncer"), bouncer], "listen": f"127.0.0.1:{port}", **keys}
    base = {"name": "postgres", "command": database.command, "listen": "none", "orchestration": rules, **keys}
    aether = start({"services": [base, {**front, "after": ["postgres"]}], "observability": {"metrics_port": "none"}})
    bench = [database.programs / "pgbench", "-h", "127.0.0.1", "-p", str(port), "-U", "tester", "postgres"]
    subprocess.run([*bench, "-i", "-q"], check=True, capture_output=True)
    turns = soak(500)
    with subprocess.Popen([*bench, "-n", "-c", "4", "-t", str(turns), "-R", "500"], stdout=subprocess.PIPE, text=True,
                          stderr=subprocess.STDOUT) as clients:
        for done in range(SWAPS):
            swap_all(aether, 1, "postgres")
            eventually(lambda: aether.text().count("[RESUME] RESUME") > done, "clients go on")  # noqa: B023
        assert clients.poll() is None, "the clients ended before the last swap"
        said = clients.communicate()[0]
    assert clients.returncode == 0 and f"{4 * turns}/{4 * turns}" in said, said
    assert database.sql("select count(*) from pgbench_history") == str(4 * turns)
    stops_cleanly(aether, database.folder)
