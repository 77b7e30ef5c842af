# SPDX-License-Identifier: Apache-2.0
"""Servers of the distribution that take their listener, with the command lines of docs/programs.md: swapped
under a load of new connections they lose none. And what stands between Aether and a program: wrappers.
"""

import json
import os
import shutil

import pytest

from aether import BINARY, PATIENCE, free_port
from programs import ASYNCIO, program, service
from under_load import (
    Load,
    installed,
    ready_by,
    revisions_alive,
    soak,
    stops_cleanly,
    swap_all,
    written,
)

SWAPS = soak(5)

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


@pytest.mark.edge("A2")
@pytest.mark.parametrize("name", ["haproxy", "lighttpd", "uwsgi", "puma"])
def test_a_server_that_takes_its_listener_loses_no_new_connection(start, tmp_path, name):
    port, folder = free_port(), tmp_path / "server"
    command, more, reason = http_server(name, folder, port)
    listen = [{"name": "web", "address": f"127.0.0.1:{port}"}]
    aether = start(service(command, listen=listen, soak="50ms", **more))
    assert reason in ready_by(aether)[0], aether.text()
    with Load(port) as load:
        swap_all(aether, SWAPS)
    load.lost_nobody(SWAPS - 1)
    stops_cleanly(aether, folder)


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
    with Load(port) as load:
        swap_all(aether, SWAPS)
    load.lost_nobody(SWAPS - 1)
    stops_cleanly(aether, folder)


NODE = """
const server = require('http').createServer((request, response) => response.end('ok'));
server.listen(process.env.LISTEN_FDS ? {fd: 3} : Number(process.env.OWN_PORT), '127.0.0.1');
process.on('SIGTERM', () => server.close(() => process.exit(0)));
"""


def npm_start(folder, line):
    written(folder, "server.js", NODE)
    written(folder, "package.json", json.dumps({"name": "app", "version": "1.0.0", "scripts": {"start": line}}))
    return [installed("npm"), "start"]


def test_npm_start_closes_the_listeners_and_aether_exec_says_so(start, tmp_path):
    command = npm_start(tmp_path, f"{BINARY} exec -- node server.js")
    aether = start(service(command, listen="127.0.0.1:0", workdir=str(tmp_path), restart="never"), wait=False)
    assert aether.process.wait(PATIENCE) == 126
    assert "closed it (node and npm do)" in aether.text(), aether.text()


@pytest.mark.edge("C4")
def test_nothing_of_npm_start_stays_when_its_revision_is_over(start, tmp_path):
    port = free_port()
    aether = start({
        "service": {"name": "web", "command": npm_start(tmp_path, "node server.js"), "listen": "none",
                    "workdir": str(tmp_path), "env": {"OWN_PORT": str(port)}, "ready": {"tcp": f"127.0.0.1:{port}"}},
        "orchestration": {"mode": "run"},
        "observability": {"metrics_port": "none"},
    })
    swap_all(aether, 2)
    newest = aether.service()["revision"]
    alive = list(revisions_alive(aether).values())
    assert set(alive) == {newest} and len(alive) >= 2, "npm, its shell perhaps, and node; of the newest revision only"
    assert aether.stop() == 0 and not revisions_alive(aether), aether.text()
