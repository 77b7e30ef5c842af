# SPDX-License-Identifier: Apache-2.0
"""Functions restored from images (launch: image): what survives an Aether that was killed, and what is not used."""

import json
import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

import handlers
from aether import BINARY, PATIENCE, Aether, eventually, free_port
from test_function_languages import ask, state, warm

INSTALL = Path(__file__).parents[2] / "scripts" / "install-criu"
HAS_CRIU = os.geteuid() == 0 and subprocess.run([INSTALL, "--check"], capture_output=True).returncode == 0
NEEDS_CRIU = pytest.mark.skipif(not HAS_CRIU, reason="no CRIU works here: scripts/install-criu says why")
# Counts how often it was started, not restored, in a file of another folder than its own.
STARTS = """
with open(os.environ["STARTS"], "a") as starts: starts.write("x")
server = """


class Site:
    """A handler with an image of its own, and the Aether that has it."""

    def __init__(self, folder, name="python", **keys):
        self.folder = folder
        self.handler = handlers.build(name, folder / "handler")
        if name == "python":
            self.handler.write_text(self.handler.read_text().replace("server = ", STARTS, 1))
        self.images = Path("/dev/shm") / f"aether-test-{os.getpid()}-{free_port()}"
        self.settings = {"restore_timeout_ms": 100, "warm_pool_size": 1, "snapshot_dir": str(self.images)}
        # A restore that a busy machine makes late is tried again, and no handler is started instead.
        self.keys = {"launch": "image", "parked": 0, "on_restore_failure": "fail",
                     "environment": {"STARTS": str(folder / "starts")}, **keys}
        self.port = free_port()
        self.aether = Aether(folder / "aether", self.config())

    def config(self, **more):
        functions = [handlers.function(self.handler, self.port, **{**self.keys, **more})]
        return {"orchestrator": self.settings, "functions": functions, "observability": {"metrics_port": "none"}}

    def __enter__(self):
        self.aether.start()
        return self

    def __exit__(self, *_):
        self.aether.stop()
        shutil.rmtree(self.images, ignore_errors=True)

    def running(self):
        def found():
            now = state(self.aether)
            assert now.get("state") != "FAILED", now
            return now.get("state") == "RUNNING" and now

        return eventually(found, f"it runs: {self.aether.text()}")

    def again(self):
        """After a kill -9."""
        self.aether.kill()
        eventually(lambda: not self.processes(), f"its handlers end with it: {self.processes()}")

    def processes(self):
        return subprocess.run(["pgrep", "-f", str(self.handler)], capture_output=True, text=True).stdout

    def starts(self):
        return len((self.folder / "starts").read_text())

    def image(self):
        """The folder of its only image."""
        found = [path for path in self.images.glob("images/*/fn/*") if not path.name.startswith("half")]
        assert len(found) == 1, found
        return found[0]

    def answered_by_an_image(self):
        """The word of an instance that was restored for a request; a busy machine may need several tries."""
        def asked():
            status, body, start = ask(self.port)
            return status == 200 and start == "image" and json.loads(body)

        return eventually(asked, f"an image answers: {self.aether.text()}")

    def all_warm(self, count):
        def found():
            ones = warm(state(self.aether))
            return len(ones) == count and {one["tier"] for one in ones} == {"image"} and ones

        return eventually(found, f"{count} are there from the image: {state(self.aether)}; {self.aether.text()}")


@NEEDS_CRIU
def test_a_handler_is_restored_after_a_kill_of_aether_and_not_after_its_code_has_changed(tmp_path):
    with Site(tmp_path, idle_timeout="20ms") as site:
        assert site.running()["launch"] == "image"
        before = site.answered_by_an_image()
        image = site.image()
        site.again()
        site.aether.start()
        site.running()
        after = site.answered_by_an_image()
        assert site.starts() == 1, "it was started once, by the first Aether"
        assert site.image() == image
        assert (before["pid"], before["random"]) != (after["pid"], after["random"])
        # A clean end keeps it, too; another program is not served from it.
        site.aether.stop()
        site.handler.write_text(site.handler.read_text().replace('"language": "python"', '"language": "changed"'))
        site.aether.start()
        site.running()
        assert site.answered_by_an_image()["language"] == "changed"
        assert site.starts() == 2 and site.image() != image
        # A function that is gone leaves none.
        site.aether.write_config({**site.config(), "functions": [
            handlers.function(site.handler, free_port(), "other", **{**site.keys, "launch": "spawn"})]})
        site.aether.hangup()
        eventually(lambda: not list(site.images.glob("images/*/fn")), "its images are removed")


@NEEDS_CRIU
def test_a_torn_image_is_told_and_made_anew(tmp_path):
    with Site(tmp_path, idle_timeout="20ms") as site:
        site.running()
        pages = site.image() / "pages-1.img"
        site.aether.stop()
        bytes_of = bytearray(pages.read_bytes())
        bytes_of[len(bytes_of) // 2] ^= 1
        pages.write_bytes(bytes_of)
        site.aether.start()
        site.running()
        assert site.answered_by_an_image()["language"] == "python"
        assert site.starts() == 2
        assert "its file pages-1.img is not whole" in site.aether.text()


def load(port, seconds_of_requests, failures):
    for _ in range(seconds_of_requests):
        status, body, _ = ask(port)
        if status != 200:
            failures.append((status, body))


@NEEDS_CRIU
def test_four_instances_of_one_image_answer_under_load_and_draw_numbers_of_their_own(tmp_path):
    with Site(tmp_path, min_instances=4, max_instances=4) as site:
        site.running()
        ones = site.all_warm(4)
        failures = []
        clients = [threading.Thread(target=load, args=(site.port, 100, failures)) for _ in range(4)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        assert not failures, failures[:3]
        said = [json.loads(ask(one["port"])[1]) for one in ones for _ in range(3)]
        assert {word["pid"] for word in said} == {one["pid"] for one in ones}
        drawn = [word["random"] for word in said]
        assert len(set(drawn)) == len(drawn), drawn
        for one in ones:
            rights = Path(f"/proc/{one['pid']}/status").read_text()
            assert "Seccomp:\t2" in rights and "NoNewPrivs:\t1" in rights, "its sandbox came with it"
        assert site.starts() == 1


@NEEDS_CRIU
@pytest.mark.skipif(handlers.missing("node") is not None, reason="Node is not installed")
def test_instances_of_a_node_image_draw_numbers_of_their_own(tmp_path):
    with Site(tmp_path, "node", min_instances=3, max_instances=3) as site:
        site.running()
        said = [json.loads(ask(one["port"])[1]) for one in site.all_warm(3)]
        for what in ("random", "uuid", "pid"):
            assert len({word[what] for word in said}) == 3, said


@NEEDS_CRIU
@pytest.mark.parametrize("policy", ["fail", "cold"])
def test_a_restore_over_its_time_is_a_fault_of_its_own_or_a_cold_start(tmp_path, policy):
    site = Site(tmp_path, on_restore_failure=policy)
    site.settings["restore_timeout_ms"] = 1  # CRIU needs five at least
    site.aether.write_config(site.config())
    with site:
        site.running()
        status, body, start = ask(site.port)
        if policy == "cold":
            assert (status, start) == (200, "cold"), body
        else:
            assert status == 503 and "restore_timeout_ms" in body, body
        starts = state(site.aether)["starts"]
        assert starts["image"]["failed"] >= 1, starts
        eventually(lambda: len(site.processes().split()) <= 1, "nothing is left of a restore")


BROKEN = """#!/bin/sh
[ "$1" = --version ] && { echo 'Version: 3.17.1'; exit 0; }
while [ $# -gt 0 ]; do
  [ "$1" = -o ] && echo 'Error (criu/vdso.c:614): vdso: Unexpected rt vDSO area bounds' > "$2"
  shift
done
exit 1
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="images are for root")
def test_where_criu_does_not_work_doctor_says_why_and_images_are_refused(tmp_path):
    criu = tmp_path / "criu"
    criu.write_text(BROKEN)
    criu.chmod(0o755)
    environment = {**os.environ, "AETHER_CRIU": str(criu)}
    doctor = subprocess.run([BINARY, "doctor"], env=environment, capture_output=True, text=True, timeout=PATIENCE)
    line = doctor.stdout[doctor.stdout.index("images of handlers (CRIU)"):]
    assert line.startswith("images of handlers (CRIU): launch: image is refused: ")
    assert "CRIU 3.17.1" in line and "Unexpected rt vDSO area bounds" in line
    site = Site(tmp_path / "site")
    try:
        for words in (["validate", site.aether.config], ["-c", site.aether.config, "up", "--foreground"]):
            refused = subprocess.run([BINARY, *words], env=environment, capture_output=True, text=True,
                                     timeout=PATIENCE)
            assert refused.returncode == 1
            assert 'function "fn": launch: image: ' in refused.stderr
            assert "Unexpected rt vDSO area bounds" in refused.stderr
    finally:
        shutil.rmtree(site.images, ignore_errors=True)
