# SPDX-License-Identifier: Apache-2.0
"""`steer: bpf`: the addresses that programs bind, datagrams, several sockets of one program, and what is left
of it in the kernel when Aether is gone or may not do it at all."""

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from aether import eventually, free_port
from bound import NGINX, bound_service, get, links_of_kernel, plain, shares
from programs import program
from under_load import Load, command_line, installed, stops_cleanly, swap_all, written

ECHO = """
import os, signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
sock = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((sys.argv[1], int(sys.argv[2])))
while True:
    data, peer = sock.recvfrom(2048)
    sock.sendto(b"%d %s" % (os.getpid(), data), peer)
"""


@pytest.mark.parametrize(
    ("address", "bound", "hosts"),
    [("0.0.0.0:{}", "0.0.0.0", ["127.0.0.1", "127.0.0.7"]), ("[::1]:{}", "::1", ["::1"]),
     (":{}", "::", ["127.0.0.1", "::1"]), (":{}", "0.0.0.0", ["127.0.0.1"])],
    ids=["v4", "v6", "dual", "dual listener, v4 program"],
)
def test_every_kind_of_address_is_swapped(start, tmp_path, bpf, address, bound, hosts):
    port, folder = free_port(), tmp_path / "server"
    aether = start(bound_service(plain(folder, port, host=bound), address.format(port)))
    before = {get(port, host=host)[1].split()[0] for host in hosts}
    swap_all(aether, 2)
    after = {get(port, host=host)[1].split()[0] for host in hosts}
    assert len(before) == len(after) == 1 and before != after, (before, after)
    stops_cleanly(aether, folder)


@pytest.mark.parametrize(("host", "to"), [("0.0.0.0", "127.0.0.1"), ("::1", "::1")], ids=["v4", "v6"])
def test_datagrams_are_answered_from_the_documented_port_over_swaps(start, tmp_path, bpf, host, to):
    port, folder = free_port(), tmp_path / "server"
    command = [*program(folder, "echo.py", ECHO), host, str(port)]
    shown = f"[{host}]" if ":" in host else host
    aether = start(bound_service(command, f"udp://{shown}:{port}"))
    pids = set()
    with socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(30)
        client.connect((to, port))  # takes answers from that port alone
        for turn in range(4):
            for number in range(20):
                word = f"{turn}-{number}".encode()
                client.send(word)
                pid, _, echoed = client.recv(2048).partition(b" ")
                assert echoed == word
                pids.add(pid)
            if turn < 3:
                swap_all(aether, 1)
    assert len(pids) == 4, pids
    stops_cleanly(aether, folder)


def test_each_socket_of_a_program_gets_its_part_also_after_its_own_reload(start, tmp_path, bpf):
    port, folder = free_port(), tmp_path / "server"
    config = written(folder, "nginx.conf", NGINX.format(folder=folder, port=port, flags=" reuseport"))
    command = [installed("nginx"), "-p", str(folder), "-c", config]
    aether = start(bound_service(command, f"127.0.0.1:{port}", stop_signal="SIGQUIT"))
    assert len(shares(aether)[1]["hidden_ports"]) == 2, shares(aether)
    answered = set()
    eventually(lambda: answered.add(get(port)[1]) or len(answered) == 2, "both of its workers answer")
    # Two workers become four, by nginx's own signal: its new sockets are found.
    written(folder, "nginx.conf", NGINX.format(folder=folder, port=port, flags=" reuseport").replace(
        "worker_processes 2", "worker_processes 4"))
    with Load(port, rate=200) as load:
        os.kill(aether.service()["pid"], signal.SIGHUP)
        eventually(lambda: len(shares(aether)[1]["hidden_ports"]) == 4, "its four sockets are found")
        swap_all(aether, 1)
    assert load.result["failed"] == 0, load.result
    stops_cleanly(aether, folder)


def test_aether_killed_leaves_nothing_in_the_kernel_and_the_next_one_serves(start, tmp_path, bpf):
    port, folder = free_port(), tmp_path / "server"
    config = bound_service(plain(folder, port), f"127.0.0.1:{port}")
    aether = start(config)
    assert get(port)[0] == 200
    own, program_pid = f"({aether.pid})", aether.service()["pid"]
    assert "sk_lookup" in links_of_kernel(), "bpftool sees the link"
    aether.kill()
    eventually(lambda: own not in links_of_kernel(), "the links of the killed Aether are gone")
    os.kill(program_pid, signal.SIGKILL)
    eventually(lambda: not command_line(Path(f"/proc/{program_pid}")), "its program is gone")
    again = start(config)
    assert get(port)[0] == 200
    stops_cleanly(again, folder)


def test_without_the_right_validate_and_up_name_the_place_and_what_is_missing(start, tmp_path, bpf):
    port, folder = free_port(), tmp_path / "server"
    aether = start(bound_service(plain(folder, port), f"127.0.0.1:{port}"))
    lacking = [installed("setpriv"), "--bounding-set=-bpf,-net_admin,-sys_admin",
               "--inh-caps=-bpf,-net_admin,-sys_admin"]
    config = folder / "refused.yaml"
    config.write_text('service:\n  name: web\n  command: ["true"]\n'
                      f'  listen: {{address: "127.0.0.1:{free_port()}", steer: bpf}}\n')
    for words in (["validate", str(config)], ["-c", str(config), "up", "-f"]):
        refused = subprocess.run([*lacking, str(aether.binary), *words], env=aether.env, capture_output=True,
                                 text=True, timeout=60, check=False)
        told = refused.stdout + refused.stderr
        assert refused.returncode != 0, told
        assert f"{config}:4:11: service \"web\": steer: bpf" in told and "CAP_" in told, told
