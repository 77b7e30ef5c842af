# SPDX-License-Identifier: Apache-2.0
"""Servers that reload and replace themselves, under Aether: what still works, and what each does that
somebody has to know (docs/programs.md)."""

import os
import signal
from pathlib import Path

import pytest

from aether import PYTHON, eventually, free_port
from processes import children_of, stat
from programs import service
from under_load import Load, installed, revisions_alive, ready_by, soak, stops_cleanly, swap_all, written

SWAPS = soak(2)

NGINX = """
daemon off;
worker_processes 2;
{pid}
error_log stderr notice;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port}{option}; location / {{ add_header X-Pid $pid always; return 200 "$pid"; }} }}
}}
"""


def nginx(folder, port, pid="", option=""):
    """The service of an nginx whose pid file is `pid`; by default one of each revision's own."""
    pid_line = f"pid {pid};" if pid else ""
    config = written(folder, "nginx.conf", NGINX.format(folder=folder, port=port, pid=pid_line, option=option))
    command = f"exec {installed('nginx')} -p {folder} -c {config}"
    if not pid:
        command += f' -g "pid {folder}/nginx.$AETHER_REVISION.pid;"'
    return service(["sh", "-c", command], listen={"name": "web", "address": f"127.0.0.1:{port}"}, soak="50ms",
                   compat=["nginx"], stop_signal="SIGQUIT")


def main_pid(aether):
    return aether.service()["pid"]


def test_nginx_leaves_no_pid_file_that_two_revisions_share_but_one_of_each_stays(start, tmp_path):
    shared = tmp_path / "shared" / "nginx.pid"
    aether = start(nginx(tmp_path / "shared", free_port(), pid=shared))
    swap_all(aether, 1)
    eventually(lambda: not shared.exists(), "the old nginx removed the file of the new one, as it always has")

    aether = start(nginx(tmp_path / "own", free_port()))
    swap_all(aether, 1)
    files = lambda: [p.name for p in (tmp_path / "own").glob("nginx.*.pid")]  # noqa: E731
    eventually(lambda: files() == ["nginx.2.pid"], "each has its own file")
    assert int((tmp_path / "own" / "nginx.2.pid").read_text()) == main_pid(aether)


def waits(pid):
    """Whether it sleeps and has an epoll that watches something."""
    watches = any("tfd:" in info.read_text() for info in Path(f"/proc/{pid}/fdinfo").iterdir())
    return watches and stat(pid)[0] == "S"


@pytest.mark.edge("G3")
def test_nginx_does_not_replace_itself_under_a_parent_that_lives_but_reloads_itself(start, tmp_path):
    port, folder = free_port(), tmp_path / "nginx"
    aether = start(nginx(folder, port))
    # A worker that has only just begun misses the word to end, and stays: nginx's own race.
    eventually(lambda: all(waits(worker) for worker in children_of(main_pid(aether))), "its workers are at rest")
    with Load(port) as load:
        os.kill(main_pid(aether), signal.SIGUSR2)
        eventually(lambda: "changing binary signal is ignored" in aether.text(), "nginx says that it does not")
        os.kill(main_pid(aether), signal.SIGHUP)
        eventually(lambda: "gracefully shutting down" in aether.text(), "its workers change")
        swap_all(aether, SWAPS)
    load.lost_nobody(SWAPS + 2)  # the workers before and after its own reload, and of each swap
    stops_cleanly(aether, folder)


@pytest.mark.edge("A16")
def test_nginx_with_reuseport_takes_new_connections_by_one_worker_and_loses_none(start, tmp_path):
    """Its workers' own sockets join the group of Aether's listener; steering keeps them out of the way."""
    port, folder = free_port(), tmp_path / "nginx"
    aether = start(nginx(folder, port, option=" reuseport"))
    with Load(port) as load:
        swap_all(aether, SWAPS)
    load.lost_nobody(SWAPS)
    assert "joined the address with SO_REUSEPORT" in aether.text(), aether.text()
    stops_cleanly(aether, folder)


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


def running(aether):
    service_now = aether.service()
    return service_now if service_now["state"] == "RUNNING" else None


@pytest.mark.edge("B5", "G3")
def test_haproxy_reloads_itself_with_usr2_in_its_own_pid_and_is_swapped_as_well(start, tmp_path):
    port, folder = free_port(), tmp_path / "haproxy"
    config = written(folder, "haproxy.cfg", HAPROXY)
    command = ["env", "FD={fd:web}", installed("haproxy"), "-Ws", "-f", config]
    # It says RELOADING=1 before its first READY=1, and READY=1 again after each reload of its own.
    aether = start(service(command, listen={"name": "web", "address": f"127.0.0.1:{port}"}, soak="50ms",
                           stop_signal="SIGUSR1", ready="notify"))
    with Load(port) as load:
        for turn in range(SWAPS):
            before = main_pid(aether)
            workers = aether.text().count("Loading success")
            os.kill(before, signal.SIGUSR2)
            eventually(lambda: aether.text().count("Loading success") > workers, "its own reload")  # noqa: B023
            service_now = eventually(lambda: running(aether), "what was before it has drained")
            assert service_now["pid"] == before, (turn, service_now)
            swap_all(aether, 1)
    load.lost_nobody(2 * SWAPS)
    stops_cleanly(aether, folder)


WSGI = """
import os
def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "2"), ("X-Pid", str(os.getpid()))])
    return [b"ok"]
"""


def gunicorn(folder, port):
    written(folder, "app.py", WSGI)
    command = [PYTHON, "-m", "gunicorn", "--chdir", str(folder), "--workers", "2", "app"]
    return service(command, listen={"name": "web", "address": f"127.0.0.1:{port}"}, soak="50ms", ready="notify")


@pytest.mark.edge("C4", "G3")
def test_gunicorn_reloads_its_workers_with_hup_and_survives_its_usr2(start, tmp_path):
    port, folder = free_port(), tmp_path / "gunicorn"
    aether = start(gunicorn(folder, port))
    with Load(port) as load:
        os.kill(main_pid(aether), signal.SIGHUP)
        eventually(lambda: aether.text().count("Booting worker") >= 4, "two new workers")
        os.kill(main_pid(aether), signal.SIGUSR2)
        eventually(lambda: "Socket operation on non-socket" in aether.text(), "its second master fails")
        swap_all(aether, SWAPS)
        newest = aether.service()["revision"]
        eventually(lambda: set(revisions_alive(aether).values()) == {newest}, "no worker of an old one is left")
    load.lost_nobody(SWAPS)
    stops_cleanly(aether, folder)


PUMA = """
app { |env| [200, {"Content-Length" => "2", "X-Pid" => Process.pid.to_s}, ["ok"]] }
workers 1
"""


@pytest.mark.edge("G3")
def test_puma_restarts_its_workers_and_itself_inside_a_revision(start, tmp_path):
    port, folder = free_port(), tmp_path / "puma"
    config = written(folder, "puma.rb", PUMA)
    command = [installed("puma"), "-C", config, "-b", f"tcp://127.0.0.1:{port}", "-e", "production"]
    aether = start(service(command, listen={"name": "web", "address": f"127.0.0.1:{port}"}, soak="50ms"))
    pid = main_pid(aether)
    with Load(port) as load:
        for word, sign in (("phased", signal.SIGUSR1), ("hot", signal.SIGUSR2)):
            booted = aether.text().count("booted in")
            os.kill(pid, sign)
            eventually(lambda: aether.text().count("booted in") > booted, word)  # noqa: B023
        assert main_pid(aether) == pid
        swap_all(aether, SWAPS)
    load.lost_nobody(SWAPS + 2)
    stops_cleanly(aether, folder)


@pytest.mark.parametrize("options, stop", [(["--die-on-term"], "SIGTERM"), (["--exit-on-reload"], "SIGHUP")])
def test_uwsgi_ends_by_sigterm_only_when_it_is_told_to(start, tmp_path, options, stop):
    port, folder = free_port(), tmp_path / "uwsgi"
    command = [installed("uwsgi-core"), "--plugin", "python3", "--master", *options, "--http-socket", "fd://{fd:web}",
               "--wsgi-file", written(folder, "app.py", WSGI), "--disable-logging"]
    aether = start(service(command, listen={"name": "web", "address": f"127.0.0.1:{port}"}, soak="50ms",
                           stop_signal=stop, ready="notify"))
    assert "notify" in ready_by(aether)[0]
    with Load(port) as load:
        swap_all(aether, SWAPS)
    load.lost_nobody(SWAPS)
    stops_cleanly(aether, folder)
