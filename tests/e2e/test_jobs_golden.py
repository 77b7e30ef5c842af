# SPDX-License-Identifier: Apache-2.0
"""Stores that earlier releases wrote: this one verifies them, decides them again, and goes on with them."""

import json
import tarfile
from pathlib import Path

import pytest
from golden_jobs import AGENT, TOOLS
from jobs import Jobs, config, without_network

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("jobs-*"))


@pytest.fixture(params=GOLDEN, ids=lambda path: path.name)
def golden(request, tmp_path):
    with tarfile.open(request.param / "store.tar.xz") as archive:
        archive.extractall(tmp_path)  # noqa: S202 - our own
    house = Jobs(tmp_path, config(agents=[AGENT], tools=TOOLS))
    house.told = json.loads((request.param / "runs.json").read_text())
    yield house
    if house.process:
        house.stop()


def test_there_is_a_store_of_each_release():
    assert [path.name for path in GOLDEN][:1] == ["jobs-1"]


def test_it_verifies_and_all_that_ended_is_decided_again_to_the_same_bytes(golden):
    golden.verified()
    for name, told in golden.told.items():
        # Where there is no network, nothing could be called.
        command = [str(golden.binary), "-c", str(golden.config), "-o", "json", "replay", told["id"]]
        done = without_network(command, env=golden.env)
        if done is None:
            pytest.skip("needs a network namespace of its own (root, or user namespaces)")
        assert done.returncode == 0, (name, done.stdout + done.stderr)
        replayed = json.loads(done.stdout)
        assert replayed["equal"] and replayed["calls"] == 0, (name, replayed)
        assert replayed["status"] == told["status"], name
        assert json.dumps(replayed["output"]) == json.dumps(told["output"]), name
        assert golden.cli("trace", told["id"]).returncode == 0, name


def test_it_goes_on_where_it_was(golden):
    golden.start()
    runs = {name: told["id"] for name, told in golden.told.items()}
    for name, told in golden.told.items():
        job = golden.job(runs[name])
        assert {key: job[key] for key in ("status", "output", "error")} == {
            key: told[key] for key in ("status", "output", "error")
        }, name
    listed = golden.request("GET", "/v1/jobs?limit=1000")[2]["jobs"]
    assert set(runs.values()) <= {one["id"] for one in listed}
    # The keys of submissions are known still.
    code, _, answer = golden.request("POST", "/v1/jobs", {"goal": "another"}, {"Idempotency-Key": "all"})
    assert code == 409, answer
    golden.change(runs["approval"], "approvals", decision="approve")
    golden.change(runs["signal"], "signals", name="go")
    golden.change(runs["doubt"], "resolve", outcome="happened", result={"told": 1})
    golden.change(runs["paused"], "control", action="resume")
    for name in ("approval", "signal", "doubt", "paused"):
        assert golden.ended(runs[name])["status"] == "completed", name
    assert golden.job(runs["approval"])["output"] == {"after": {"by": "approved"}}
    assert golden.halt() == 0
    golden.verified()
