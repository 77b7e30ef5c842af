# SPDX-License-Identifier: Apache-2.0
"""Logs over swaps, services that come and go by a reload, and an Aether that is killed."""

import json
import os
import subprocess

import pytest

from aether import PATIENCE, Aether, eventually, free_port
from programs import ASYNCIO, program

LINES = 300 * int(os.environ.get("AETHER_SOAK", "1"))

# Writes numbered lines to both streams, in pieces that do not end with the line.
TALKER = f"""
import os, sys, threading
me = os.environ["AETHER_REVISION"]
def talk():
    for number in range({LINES}):
        for stream in (1, 2):
            os.write(stream, b"r%s " % me.encode())
            os.write(stream, b"line %d of stream %d\\n" % (number, stream))
talk()
threading.Thread(target=talk, daemon=False).start()
"""


def config_of(folder, name="web", text=ASYNCIO):
    return {"name": name, "command": program(folder, f"{name}.py", text), "stop_timeout": "2s",
            "listen": f"127.0.0.1:{free_port()}"}


@pytest.mark.edge("H4")
def test_no_line_is_lost_or_merged_over_swaps_and_each_has_its_revision(start, tmp_path):
    aether = start({"service": config_of(tmp_path, text=TALKER + ASYNCIO), "orchestration": {"soak_time": "0s"},
                    "observability": {"metrics_port": "none"}})
    output = tmp_path / "followed.txt"
    with open(output, "wb") as out:
        follow = subprocess.Popen([str(aether.binary), "-c", str(aether.config), "logs", "-f", "-n", "10000", "-o",
                                   "json"], env=aether.env, stdout=out)
    for _ in range(3):
        assert aether.reload()["verdict"] == "succeeded"

    def lines():
        text = output.read_text()
        whole = text[: text.rfind("\n") + 1]
        return [json.loads(line) for line in whole.splitlines()]

    wanted = 4 * 2 * 2 * LINES  # revisions, streams, rounds
    eventually(lambda: len(lines()) >= wanted, "every line has come")
    follow.kill()
    follow.wait(PATIENCE)
    seen = lines()
    assert [line["sequence"] for line in seen] == list(range(seen[0]["sequence"], seen[0]["sequence"] + len(seen)))
    for revision in (1, 2, 3, 4):
        for number, stream in ((1, "stdout"), (2, "stderr")):
            texts = [line["text"] for line in seen if (line["revision"], line["stream"]) == (revision, stream)]
            one_round = [f"r{revision} line {n} of stream {number}" for n in range(LINES)]
            assert texts == one_round * 2, f"revision {revision}, {stream}"


@pytest.mark.edge("H5")
def test_services_come_and_go_by_a_reload_and_the_others_are_swapped(start, tmp_path):
    def config(*services):
        return {"services": list(services), "orchestration": {"soak_time": "0s"},
                "observability": {"metrics_port": "none"}}

    one, two, three = (config_of(tmp_path, name) for name in ("one", "two", "three"))
    aether = start(config(one, two))
    gone = aether.service("two")["pid"]
    aether.write_config(config(one, three))
    assert aether.reload()["verdict"] == "succeeded"
    eventually(lambda: any(s["name"] == "three" and s["state"] == "RUNNING" for s in aether.status()["services"]),
               "the new service runs")
    assert [service["name"] for service in aether.status()["services"]] == ["one", "three"]
    assert aether.service("one")["revision"] == 2
    eventually(lambda: not os.path.exists(f"/proc/{gone}"), "the removed one has ended")
    assert aether.ask("GET", "/v1/services/two")[0] == 404

    aether.write_config(config(one, three, {**two, "comand": ["x"]}))
    done = aether.cli("reload")
    assert done.returncode == 1 and "comand" in done.stderr
    aether.hangup()
    eventually(lambda: aether.text().count("reload refused, the old configuration stays"), "it is told in the log")
    assert [service["revision"] for service in aether.status()["services"]] == [2, 1], "nothing has changed"

    aether.write_config(config(one, two, three))
    aether.hangup()
    eventually(lambda: {s["name"] for s in aether.status()["services"] if s["state"] == "RUNNING"} ==
               {"one", "two", "three"}, "all three run")


@pytest.mark.edge("H6")
def test_a_killed_aether_leaves_its_services_serving_and_the_next_start_replaces_them(tmp_path):
    config = {"service": config_of(tmp_path), "observability": {"metrics_port": "none"}}
    first = Aether(tmp_path / "a", config).start()
    orphan = first.service()["pid"]
    first.kill()
    host, _, port = config["service"]["listen"].rpartition(":")
    answered = subprocess.run(["curl", "-s", f"http://{host}:{port}/"], capture_output=True, text=True,
                              timeout=PATIENCE)
    assert answered.stdout == str(orphan), "the service goes on without a supervisor"
    refused = first.cli("status")
    assert refused.returncode == 1 and "not-running" in refused.stderr
    second = Aether(tmp_path / "a", config, env={"AETHER_RUNTIME_DIR": str(first.runtime)})
    subprocess.run(["rm", "-rf", str(second.runtime)], check=True)
    second.runtime = first.runtime
    with second:
        assert not os.path.exists(f"/proc/{orphan}") or second.service()["pid"] != orphan
        eventually(lambda: not os.path.exists(f"/proc/{orphan}"), "the orphan is ended before the port is taken")
        assert second.service()["state"] == "RUNNING"
