# SPDX-License-Identifier: Apache-2.0
"""Stores in bad places: a full disk, a disk that fails, a place that cannot be written."""

import http.client
import json
import os
import shutil
import subprocess
import threading

import pytest
from aether import PATIENCE, eventually
from jobs import Jobs, config, http_node
from judge import Judge

VALUE = [{"id": "v", "type": "value", "with": 1}]


@pytest.fixture
def judge():
    with Judge() as running:
        yield running


class SmallDisk(Jobs):
    """Its store is on a file system of its own, of a few megabytes, which only it sees."""

    def __init__(self, folder, options="size=4m"):
        if os.geteuid() != 0:
            pytest.skip("only root can make a file system")
        disk = folder / "disk"
        disk.mkdir(parents=True)
        made = config()
        made["store"]["path"] = str(disk / "jobs.db")
        script = f"mount -t tmpfs -o {options} tmpfs {disk} && exec \"$0\" \"$@\""
        wrap = ("unshare", "-m", "sh", "-c", script)
        if subprocess.run([*wrap, "true"], capture_output=True, check=False).returncode != 0:
            pytest.skip("a file system of its own cannot be mounted here")
        super().__init__(folder, made, wrap=wrap)
        self.disk = disk

    def inside(self, *words):
        """Runs something that sees its disk."""
        command = ["nsenter", "-t", str(self.pid), "-m", *words]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, check=False, env=self.env, cwd="/"
        )

    def fill(self):
        done = self.inside("dd", "if=/dev/zero", f"of={self.disk}/ballast", "bs=4096")
        assert "No space" in done.stderr, done.stderr

    def make_room(self):
        assert self.inside("rm", f"{self.disk}/ballast").returncode == 0


def until_full(house):
    """Submits until there is no room; what was acknowledged."""
    kept = []
    for _ in range(2000):
        code, _, answer = house.request("POST", "/v1/jobs", {"graph": {"nodes": VALUE}, "input": "z" * 3000})
        if code != 201:
            assert code == 507 and answer["code"] == "store-full", answer
            return kept
        kept.append(answer["id"])
    raise AssertionError("the disk never became full")


def test_a_full_disk_refuses_and_stays_readable_and_goes_on_when_there_is_room(tmp_path, judge):
    with SmallDisk(tmp_path / "jobs") as house:
        done = house.submit(VALUE)
        house.ended(done)
        called = house.submit([http_node(judge, "n", "/hold/full")])
        parked = house.submit([{"id": "ok", "type": "approval", "with": {"message": "?"}}])
        house.wait_status(parked, "parked")
        eventually(lambda: judge.count("/hold/full") == 1, "a call is under way")
        house.fill()
        kept = until_full(house)
        assert house.process.poll() is None
        # What is there can be read.
        assert house.job(done)["status"] == "completed"
        assert house.job(parked)["status"] == "parked" and house.events(done)
        assert house.request("GET", "/v1/jobs")[0] == 200
        code, _, answer = house.post(parked, "approvals", {"decision": "approve"})
        assert code == 507 and answer["code"] == "store-full", answer
        # What a call gave while nothing could be recorded is not lost.
        judge.release("full")
        house.make_room()
        assert house.ended(called)["status"] == "completed"
        assert judge.count("/hold/full") == 1
        house.change(parked, "approvals", decision="approve")
        assert house.ended(parked)["status"] == "completed"
        for run in [*kept[-3:], house.submit(VALUE)]:
            assert house.ended(run)["status"] == "completed"
        checked = house.inside(str(house.binary), "-c", str(house.config), "-o", "json", "verify", "--all")
        assert checked.returncode == 0 and json.loads(checked.stdout)["valid"], checked.stdout + checked.stderr


@pytest.mark.parametrize("point", ["journal.begin", "journal.commit", "journal.answer"])
def test_a_disk_that_fails_ends_the_process_and_nothing_unsure_was_acknowledged(tmp_path, judge, point):
    with Jobs(tmp_path / "jobs", config()) as house:
        sure = house.submit([http_node(judge, "n", "/hold/sure", policy="keyed")], key="sure")
        eventually(lambda: judge.count("/hold/sure") == 1, "a call is under way")
        house.crash()
        house.again(wait=False, fault=f"{point}:2:eio")
        # The first group of this life is the run's lease; the second has this submission, or comes before it.
        acknowledged = None
        try:
            eventually(house.control_ready, "it serves")
            acknowledged = house.submit(VALUE, key="unsure")
        except (AssertionError, OSError, http.client.HTTPException):
            pass  # it ended before it could answer
        judge.release("sure")
        assert house.process.wait(PATIENCE) == 1, house.text()
        house.again()
        assert house.ended(sure)["status"] == "completed"
        if acknowledged:
            assert house.ended(acknowledged)["status"] == "completed"
        assert house.submit([http_node(judge, "n", "/hold/sure", policy="keyed")], key="sure") == sure
        house.halt()
        house.verified()


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A stopped store."""
    with Jobs(tmp_path_factory.mktemp("kept"), config()) as house:
        house.run = house.submit(VALUE)
        house.ended(house.run)
        house.halt()
        yield house


def read_only(kept, folder, *words):
    """Runs a command of Aether where a copy of the store is on a read-only disk."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a file system")
    disk = folder / "disk"
    disk.mkdir()
    script = f"""mount -t tmpfs tmpfs {disk} && cp {kept.folder}/jobs.db* {disk} &&
        mount -o remount,ro {disk} && exec "$0" "$@" """
    made = config()
    made["store"]["path"] = str(disk / "jobs.db")
    (folder / "aether.yaml").write_text(json.dumps(made))
    wrap = ["unshare", "-m", "sh", "-c", script]
    if subprocess.run([*wrap, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("a file system of its own cannot be mounted here")
    command = [*wrap, str(kept.binary), "-c", str(folder / "aether.yaml"), *words]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE, check=False, env=kept.env
    )


@pytest.mark.parametrize("words", [("verify", "--all"), ("fsck",), ("trace", "RUN"), ("replay", "RUN")])
def test_a_copy_on_a_read_only_disk_can_be_read_and_checked(kept, tmp_path, words):
    done = read_only(kept, tmp_path, *(kept.run if word == "RUN" else word for word in words))
    assert done.returncode == 0, done.stdout + done.stderr


def test_nobody_runs_on_a_store_that_cannot_be_written(kept, tmp_path):
    done = read_only(kept, tmp_path, "up", "-f")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "store-unavailable" in done.stderr and "jobs.db" in done.stderr, done.stderr


@pytest.mark.parametrize("content", [b"", b"this is no database\n" * 1000, None])
def test_what_is_no_store_is_said_to_be_none(kept, tmp_path, content):
    """None: a store whose second half is missing."""
    whole = (kept.folder / "jobs.db").read_bytes()
    (tmp_path / "jobs.db").write_bytes(whole[: len(whole) // 2] if content is None else content)
    shutil.copy(kept.config, tmp_path / "aeterna.yaml")
    done = kept.on_copy(tmp_path, "verify", "--all")
    assert done.returncode in (1, 2) and done.stderr + done.stdout, done
    assert "jobs.db" in done.stderr or "✗" in done.stdout, done


def test_a_store_verifies_and_lists_while_it_is_written(tmp_path):
    with Jobs(tmp_path / "jobs", config()) as house:
        over = threading.Event()
        made = []

        def write():
            while not over.is_set():
                made.append(house.submit(VALUE))

        writers = [threading.Thread(target=write) for _ in range(2)]
        for writer in writers:
            writer.start()
        try:
            eventually(lambda: len(made) > 20, "some have been submitted")
            sizes = [house.verified()["events"] for _ in range(4)]
        finally:
            over.set()
            for writer in writers:
                writer.join()
        assert sizes == sorted(sizes) and sizes[-1] > sizes[0]
        for run in made:
            house.ended(run)
        assert len(set(made)) == len(made)
        house.halt()
        told = house.verified()
        assert told["jobs"] == len(made)
