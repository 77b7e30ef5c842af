# SPDX-License-Identifier: Apache-2.0
"""Handlers with `ipc: ring` in every language that has a peer, however their instances come to be."""

import concurrent.futures
import json
import pathlib
import shutil
import subprocess
import urllib.request
import zlib

import pytest

import handlers
from aether import PATIENCE, Aether, eventually, free_port
from test_function_ring import ask, pattern, start, states

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples" / "ring"

NAMES = ("ring_python", "ring_asyncio", "ring_node", "ring_cpp")
BIG = 3 * 1024 * 1024


@pytest.mark.parametrize("launch", ["clone", "spawn"])
@pytest.mark.parametrize("name", NAMES)
def test_a_handler_answers_however_it_came_to_be(tmp_path, name, launch):
    word = name.removeprefix("ring_")
    # 64 KiB of ring: bodies go round it many times, and wait for room in it.
    with start(tmp_path, name, {"shm_buffer_size": 65536}, launch=launch, max_instances=3, min_instances=2,
               warmup=["/warm", "/bytes?100000"], ready={"http": "/ready"}) as aether:
        found = aether.function()
        assert (found["state"], found["launch"]) == ("RUNNING", launch), found
        eventually(lambda: states(aether).count("warm") >= 2, "two run")
        assert ask(aether, "/x")[1].decode() == f"hello from {word} /x"
        body = pattern(BIG)
        assert json.loads(ask(aether, "/sum", body)[1]) == {"size": BIG, "crc": zlib.crc32(body)}
        assert ask(aether, "/echo", body)[1] == body
        assert len(ask(aether, f"/bytes?{BIG}")[1]) == BIG
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda n: ask(aether, f"/{n}")[1].decode(), range(60)))
        assert answers == [f"hello from {word} /{n}" for n in range(60)]
        # A warm-up whose answer breaks off behind its head is told by the handler alone.
        assert "Error" not in aether.text(), "the peer has nothing to complain of"


@pytest.mark.parametrize("name", ["ring_node", "ring_cpp"])
def test_a_handler_in_the_strict_sandbox_has_its_ring_too(tmp_path, name):
    with start(tmp_path, name, sandbox="strict", max_instances=2) as aether:
        assert aether.function()["state"] == "RUNNING", aether.function()
        assert ask(aether, "/echo", pattern(100_000))[1] == pattern(100_000)


@pytest.mark.parametrize("name", NAMES)
def test_an_instance_that_was_parked_and_thawed_many_times_loses_no_message(tmp_path, name):
    with start(tmp_path, name, idle_timeout="50ms", max_instances=2) as aether:
        pids = set()
        for turn in range(5):
            body = pattern(100_000 + turn)
            assert json.loads(ask(aether, "/sum", body)[1])["size"] == len(body)
            pids.add(ask(aether, "/who")[1])
            eventually(lambda: "warm" not in states(aether), "all are parked")
        assert len(pids) <= 2, "they were thawed, not made anew"


def test_copies_of_node_draw_numbers_of_their_own(tmp_path):
    if why := handlers.missing("ring_node"):
        pytest.skip(why)
    with start(tmp_path, "ring_node", min_instances=3, launch="clone") as aether:
        eventually(lambda: states(aether).count("warm") == 3, "three run")
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            draws = list(pool.map(lambda _: ask(aether, "/draw")[1], range(12)))
        assert len(set(draws)) == 12


def test_the_examples_do_what_their_page_says(tmp_path):
    for name in ("notes.py", "notes.js"):
        shutil.copy(EXAMPLES / name, tmp_path / name)
    compiler = handlers.tool("clang++-19|g++|clang++")
    if compiler is None or handlers.missing("ring_node"):
        pytest.skip("needs node and a C++ compiler, not installed everywhere")
    subprocess.run([compiler, "-std=c++17", "-Werror", "-Wall", "-I", handlers.SDK_C, "-o", tmp_path / "notes",
                    EXAMPLES / "notes.cc"], check=True)
    text = (EXAMPLES / "ring.yaml").read_text()
    ports = {}
    for port in ("8091", "8092", "8093"):
        ports[port] = str(free_port())
        text = text.replace(port, ports[port])
    with Aether(tmp_path, text + 'observability: {metrics_port: "none"}\n') as aether:
        for port, word in (("8091", "python"), ("8092", "node"), ("8093", "cpp")):
            def get(path, body=None, port=port):
                request = urllib.request.Request(f"http://127.0.0.1:{ports[port]}{path}", body)
                return urllib.request.urlopen(request, timeout=PATIENCE).read()

            assert json.loads(get("/hello"))["from"] == word
            assert get("/upper", b"some Text " * 20000) == b"SOME TEXT " * 20000
            if word != "cpp":
                assert get("/count?3") == b"1\n2\n3\n"
        assert len(aether.functions()) == 3
