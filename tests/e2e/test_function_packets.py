# SPDX-License-Identifier: Apache-2.0
"""`orchestrator.ebpf`: the packets to each function's port are counted at a network interface, and sources that send
too many are dropped there. In networks of the tests' own: no other test sees the program."""

import contextlib
import ctypes
import json
import os
import shutil
import socket
import subprocess
import threading

import pytest

from aether import PATIENCE, eventually
from exposition import parse
from own_network import in_own_network
from test_function_life import config_of, function, get

_CLONE_NEWNET = 0x40000000


def packets(aether, name="f"):
    ports = aether.status()["packets"]["ports"]
    return next(one for one in ports if one["function"] == name)


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=60)


def attached(interface):
    shown = subprocess.run(["bpftool", "-j", "net", "show", "dev", interface], capture_output=True, text=True,
                           check=True, timeout=60)
    return [one for part in json.loads(shown.stdout) for one in part.get("xdp", [])]


def test_packets_to_a_port_are_counted_and_shown(start, tmp_path, bpf):
    def body():
        one, other = function(tmp_path, name="f"), function(tmp_path, name="silent")
        aether = start(config_of(one, other, ebpf={"enabled": True, "interface": "lo"}))
        told = aether.status()["packets"]
        assert (told["interface"], told["mode"], told["rate"]) == ("lo", "generic", None), told
        assert packets(aether)["packets"] == 0
        assert get(one)[0] == 200
        counted = packets(aether)
        # A handshake, a request and a farewell at least; the answers go the other way.
        assert counted["packets"] >= 4 and counted["bytes"] >= 4 * 54 and counted["dropped"] == 0, counted
        assert counted["pids"] == [each["pid"] for each in aether.function("f")["instances"] if each["state"] == "warm"]
        assert packets(aether, "silent")["packets"] == 0
        text = aether.cli("stats").stdout
        assert "XDP at lo (generic): nothing is dropped" in text and f"{one['trigger_port']}/tcp" in text, text
        page = parse(aether.cli("stats", "--prometheus").stdout)
        labels = {"owner": "function/f", "port": str(one["trigger_port"]), "protocol": "tcp"}
        assert page["aether_xdp_packets_total"].value(**labels) >= counted["packets"]
        # A reload without it takes it away, and one with it brings it back.
        if shutil.which("bpftool"):
            assert len(attached("lo")) == 1
        aether.write_config(config_of(one, other))
        aether.hangup()
        eventually(lambda: "packets" not in aether.status(), "nothing is counted any more")
        eventually(lambda: aether.function("f")["revision"] == 2, "the reload is over")
        if shutil.which("bpftool"):
            assert attached("lo") == []
        aether.write_config(config_of(one, ebpf={"enabled": True, "interface": "lo", "rate": 5, "burst": 7}))
        aether.hangup()
        eventually(lambda: aether.status().get("packets", {}).get("burst") == 7, "it counts again, with a limit")
        assert [each["function"] for each in aether.status()["packets"]["ports"]] == ["f"]
        aether.kill()
        if shutil.which("bpftool"):
            eventually(lambda: attached("lo") == [], "it is gone with Aether")

    in_own_network(body)


def in_other_network(interface, addresses, work):
    """Runs work() in a thread that has a network of its own, to which `interface` is moved, with these addresses."""
    outcome, here = {}, threading.Event()

    def run():
        libc = ctypes.CDLL(None, use_errno=True)
        outcome["refused"] = libc.unshare(_CLONE_NEWNET) != 0
        outcome["tid"] = threading.get_native_id()
        here.set()
        if outcome["refused"]:
            return
        moved.wait(PATIENCE)
        try:
            for address in addresses:
                ip("addr", "add", address, "dev", interface)
            ip("link", "set", interface, "up")
            work()
        except BaseException as error:
            outcome["error"] = error

    moved, thread = threading.Event(), threading.Thread(target=run)
    thread.start()
    here.wait(PATIENCE)
    if not outcome["refused"]:
        ip("link", "set", interface, "netns", str(outcome["tid"]))
    moved.set()
    thread.join()
    if outcome["refused"]:
        pytest.skip("a second network is not allowed here")
    if "error" in outcome:
        raise outcome["error"]


def test_a_source_that_floods_is_dropped_and_another_is_answered(start, tmp_path, bpf):
    if shutil.which("ip") is None:
        pytest.skip("needs ip, of iproute2")

    def body():
        ip("link", "add", "ours", "type", "veth", "peer", "name", "theirs")
        ip("addr", "add", "10.9.0.1/24", "dev", "ours")
        ip("link", "set", "ours", "up")
        one = function(tmp_path)
        limits = {"enabled": True, "interface": "ours", "rate": 20, "burst": 50}
        aether = start(config_of(one, ebpf=limits))

        def calm_is_answered(port):
            with socket.create_connection(("10.9.0.1", port), PATIENCE, source_address=("10.9.0.3", 0)) as calm:
                calm.sendall(b"GET / HTTP/1.0\r\n\r\n")
                assert b"200 OK" in calm.recv(4096)

        def flood():
            port = one["trigger_port"]
            calm_is_answered(port)  # The hardware address is known from here on, and nothing waits for it.
            with contextlib.ExitStack() as senders:
                for _ in range(500):
                    sender = senders.enter_context(socket.socket())
                    sender.setblocking(False)
                    sender.bind(("10.9.0.2", 0))
                    sender.connect_ex(("10.9.0.1", port))
            calm_is_answered(port)

        in_other_network("theirs", ("10.9.0.2/24", "10.9.0.3/24"), flood)
        counted = packets(aether)
        assert counted["dropped"] > 200, counted
        assert "20 packets a second" in aether.cli("stats").stdout

    in_own_network(body)


def test_an_interface_that_is_not_there_is_refused(start, tmp_path, bpf):
    def body():
        one = function(tmp_path)
        aether = start(config_of(one, ebpf={"enabled": True, "interface": "nothere0"}), wait=False)
        aether.process.wait(PATIENCE)
        assert aether.process.returncode == 1 and "nothere0" in aether.text(), aether.text()

    in_own_network(body)
