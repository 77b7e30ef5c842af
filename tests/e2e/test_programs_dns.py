# SPDX-License-Identifier: Apache-2.0
"""DNS servers under dnsperf, which counts each query that got no answer."""

import os
import re
import subprocess

import pytest

from aether import free_port
from programs import program, service
from under_load import installed, soak, stops_cleanly, swap_all, written

QUERIES = soak(4000)

# Answers each question with its own text and one address. On SIGTERM it answers what it has read, and ends.
DNS = """
import os, signal, socket
server = socket.socket(fileno=3)
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
signal.set_wakeup_fd(-1)
server.settimeout(0.05)
while True:
    try:
        question, peer = server.recvfrom(2048)
    except TimeoutError:
        if stop:
            break
        continue
    end = question.index(b"\\0", 12) + 5
    answer = question[:2] + b"\\x84\\x00\\0\\1\\0\\1\\0\\0\\0\\0" + question[12:end]
    server.sendto(answer + b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\x3c\\0\\4\\x7f\\0\\0\\1", peer)
"""

UNBOUND = """
server:
  chroot: ""
  username: ""
  directory: "{folder}"
  pidfile: ""
  use-syslog: no
  do-daemonize: no
  num-threads: 1
  interface: 127.0.0.1@{port}
  local-zone: "example." static
  local-data: "www.example. A 127.0.0.1"
  module-config: "iterator"
{more}
remote-control:
  control-enable: no
"""


def swaps_under_dnsperf(aether, folder, port):
    """Swaps until dnsperf has asked all its questions; gives how often, and what it counted."""
    questions = written(folder, "questions", "www.example A\n")
    # -t: a query is lost after so many seconds; -q: so many may wait for an answer.
    command = [installed("dnsperf"), "-s", "127.0.0.1", "-p", str(port), "-d", questions, "-n", str(QUERIES),
               "-Q", "1000", "-q", "5000", "-t", "5", "-c", "4"]
    swaps = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as clients:
        while clients.poll() is None:
            swap_all(aether, 1)
            swaps += 1
        said = clients.communicate()[0]
    counted = {word: int(re.search(rf"Queries {word}: +(\d+)", said)[1]) for word in ("sent", "completed", "lost")}
    return swaps, counted, said


@pytest.mark.edge("D10")
def test_a_dns_server_that_takes_its_socket_loses_no_query(start, tmp_path):
    port, folder = free_port(), tmp_path / "dns"
    aether = start(service(program(folder, "dns.py", DNS), listen=f"udp://127.0.0.1:{port}", soak="50ms"))
    swaps, counted, said = swaps_under_dnsperf(aether, tmp_path, port)
    assert counted == {"sent": QUERIES, "completed": QUERIES, "lost": 0} and "NOERROR" in said, said
    assert swaps >= 3, swaps
    stops_cleanly(aether, folder)


def unbound(folder, port, more=""):
    config = written(folder, "unbound.conf", UNBOUND.format(folder=folder, port=port, more=more))
    return [installed("unbound"), "-d", "-p", "-c", config]


# unbound takes LISTEN_FDS only where systemd runs, and looks for this folder to know that.
AS_IF_SYSTEMD = "mount -t tmpfs run /run && mkdir -p /run/systemd/system && exec \"$@\""


def test_unbound_takes_its_sockets_where_systemd_runs_and_loses_no_query(start, tmp_path):
    if os.getuid() != 0:
        pytest.skip("only root can give a program another /run")
    port, folder = free_port(), tmp_path / "unbound"
    command = ["unshare", "--mount", "sh", "-c", AS_IF_SYSTEMD, "sh", *unbound(folder, port, "  use-systemd: yes")]
    listen = [{"name": "udp", "address": f"udp://127.0.0.1:{port}"}, {"name": "tcp", "address": f"127.0.0.1:{port}"}]
    aether = start(service(command, listen=listen, soak="50ms", ready="notify"))
    swaps, counted, said = swaps_under_dnsperf(aether, tmp_path, port)
    assert counted == {"sent": QUERIES, "completed": QUERIES, "lost": 0} and "NOERROR" in said, said
    assert swaps >= 3, swaps
    assert "joined" not in aether.text(), aether.text()
    stops_cleanly(aether, folder)
