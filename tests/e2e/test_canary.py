# SPDX-License-Identifier: Apache-2.0
"""Weighted canaries: a new revision gets a part of the new connections, then more, then everything, or nothing
again. The same for listeners that Aether makes and for programs that bind their own port."""

import http.client
import json
import math
import subprocess

import pytest

from aether import eventually, free_port
from bound import NODE, plain
from programs import service
from under_load import LOAD, installed, stops_cleanly, written

CONNECTIONS = 10_000


def canary(folder, port, mode, soak="60s", **more):
    """A fast server with a canary; over a listener that it is given, or over its own port."""
    text = NODE.replace("PORT, '127.0.0.1'", "{fd: 3}") if mode == "steered" else NODE.replace("PORT", str(port))
    listen = {"name": "web", "address": f"127.0.0.1:{port}"} | ({"steer": "bpf"} if mode == "bpf" else {})
    config = service([installed("node"), written(folder, f"{mode}.js", text)], listen=[listen], soak=soak)
    config["orchestration"]["canary"] = more
    return config


def tally(port, connections):
    """{pid: connections} of so many connections, none of which failed."""
    result = json.loads(subprocess.check_output(
        [LOAD, f"127.0.0.1:{port}", "--clients", "8", "--requests", str(connections), "--seconds", "300",
         "--tally", "X-Pid"], text=True))
    assert result["failed"] == 0, result
    return {int(pid): count for pid, count in result["tally"].items()}


def soaks(aether):
    aether.ask("POST", "/v1/reload")
    return eventually(lambda: (s := aether.service())["phase"] == "soaking" and s, "the new one soaks")


@pytest.mark.parametrize("mode", ["steered", "bpf"])
def test_a_weight_holds_within_binomial_bounds_and_a_rollback_takes_it_back(start, tmp_path, request, mode):
    if mode == "bpf":
        request.getfixturevalue("bpf")
    port, folder, weight = free_port(), tmp_path / "server", 20
    aether = start(canary(folder, port, mode, weight=weight))
    status = soaks(aether)
    new, old = status["pid"], status["old_pid"]
    assert status["percent"] == weight
    assert f"gets {weight}% of new connections" in aether.cli("status").stdout
    got = tally(port, CONNECTIONS)
    assert set(got) == {new, old} and sum(got.values()) >= CONNECTIONS, got
    total, part = sum(got.values()), weight / 100
    # Five standard deviations: one run in two million is outside.
    assert abs(got[new] - total * part) <= 5 * math.sqrt(total * part * (1 - part)), got
    if mode == "bpf":
        given = {one["revision"]: one for one in aether.service()["listeners"][0]["shares"]}
        assert (given[2]["percent"], given[1]["percent"]) == (weight, 100 - weight), given
        assert given[2]["given"] >= got[new] and given[1]["given"] >= got[old], (given, got)
    assert aether.cli("rollback").returncode == 0
    eventually(lambda: aether.service()["phase"] != "soaking", "the canary is taken back")
    assert set(tally(port, 500)) == {old}
    stops_cleanly(aether, folder)


@pytest.mark.parametrize("mode", ["steered", "bpf"])
def test_the_weight_grows_in_steps_until_the_verdict_gives_everything(start, tmp_path, request, mode):
    if mode == "bpf":
        request.getfixturevalue("bpf")
    port, folder = free_port(), tmp_path / "server"
    steps = [{"after": "300ms", "weight": 40}, {"after": "300ms", "weight": 80}]
    aether = start(canary(folder, port, mode, soak="1s", weight=10, steps=steps))
    swap = aether.reload()
    assert swap["verdict"] == "succeeded", swap
    told = [line for line in aether.text().splitlines() if "% of new connections" in line]
    assert [part for line in told for part in ("10%", "40%", "80%") if part in line] == ["10%", "40%", "80%"], told
    assert aether.service()["percent"] == 100
    assert set(tally(port, 200)) == {swap["pid"]}
    stops_cleanly(aether, folder)


def test_a_sick_canary_costs_the_clients_nothing_but_its_part(start, tmp_path, bpf):
    port, folder = free_port(), tmp_path / "server"

    def config(*words):
        made = service(plain(folder, port, *words), soak="60s",
                       listen=[{"name": "web", "address": f"127.0.0.1:{port}", "steer": "bpf"}])
        made["orchestration"]["canary"] = {
            "weight": 10, "health_check": {"http_get": "/health", "interval": "50ms", "threshold": 3}}
        return made

    aether = start(config())
    aether.write_config(config("sick"))
    # The check asks the canary itself, of which nine of ten connections would tell nothing.
    swap = aether.reload()
    assert swap["verdict"] == "rolled-back" and "health probe" in swap["why"], swap
    assert aether.service()["percent"] == 100 and aether.service()["revision"] == 1
    stops_cleanly(aether, folder)


@pytest.mark.parametrize("mode", ["steered", "bpf"])
def test_a_client_that_sticks_stays_with_its_revision(start, tmp_path, request, mode):
    if mode == "bpf":
        request.getfixturevalue("bpf")
    port, folder = free_port(), tmp_path / "server"
    aether = start(canary(folder, port, mode, weight=40, stick="source"))
    new = soaks(aether)["pid"]
    sources = [f"127.0.1.{number}" for number in range(1, 101)]
    fresh = {source for source in sources if home(port, source) == new}
    assert {source for source in sources if home(port, source) == new} == fresh
    assert abs(len(fresh) - 40) <= 5 * math.sqrt(100 * 0.4 * 0.6), fresh
    stops_cleanly(aether, folder)


def home(port, source):
    """The pid that answers a client of that address."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60, source_address=(source, 0))
    try:
        connection.request("GET", "/", headers={"Connection": "close"})
        return int(connection.getresponse().read())
    finally:
        connection.close()
