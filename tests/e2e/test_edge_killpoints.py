# SPDX-License-Identifier: Apache-2.0
"""Death, stopping and leaving at each message of a handoff, and at random times: the memory is whole or was
the dead one's alone, the service is whole, nothing leaks, and the next swap works."""

import http.client
import json
import os
import random
import re
import signal
import threading
import time
from collections import Counter

import pytest
from aether import PATIENCE, eventually
from programs import COUNTER, program
from srp_peer import NEW_POINTS, OLD_POINTS, peer_config
from test_memory import counter_config

SOAK = int(os.environ.get("AETHER_SOAK", "1"))


class Peers:
    """A service of scripted peers, and what must hold after whatever they did."""

    def __init__(self, start, folder, **config):
        self.plan = folder / "plan"
        self.aether = start(peer_config(folder, **config))
        self.port = int(self.aether.service()["listeners"][0]["address"].rpartition(":")[2])
        self.updates = 0
        eventually(lambda: self.add(), "it takes updates")
        self.fds = eventually(self.settled, "the number of open files settles")

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body=body)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def add(self):
        self.updates += 1
        return self.ask("POST", f"/add/{self.updates}")["pid"]

    def whole(self):
        seen = set(self.ask("GET", "/memory")["seen"])
        return seen == {str(number + 1) for number in range(self.updates)}

    def swap(self, **plan):
        """One reload under a plan; who was stopped goes on afterwards."""
        before = self.aether.service()["pid"]
        self.plan.write_text(json.dumps(plan))
        swap = self.aether.reload()
        self.plan.unlink()
        assert isinstance(swap, dict), swap
        for pid in (before, swap["pid"]):
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                pass
        return swap, before

    def idle(self):
        return eventually(lambda: self.aether.service()["phase"] == "idle", "the swap is over")

    def good_swap(self):
        def succeeds():
            swap, before = self.swap()
            return swap["verdict"] == "succeeded" and before

        before = eventually(succeeds, f"a good swap succeeds; {self.aether.text()}")
        assert self.add() != before

    def files(self):
        names = Counter()
        for entry in os.listdir(f"/proc/{self.aether.pid}/fd"):
            try:
                name = os.readlink(f"/proc/{self.aether.pid}/fd/{entry}")
                names[re.sub(r"[0-9]+", "N", name)] += 1
            except OSError:
                pass
        return names

    def settled(self):
        first = self.files()
        return all(self.files() == first for _ in range(20)) and first

    def leaks_nothing(self):
        def few():
            return not self.files() - self.fds

        try:
            eventually(few, "few files are open", patience=5)
        except AssertionError:
            # Revisions that ended at the same time may leave spare lanes, which the next swap takes away.
            self.good_swap()
            eventually(few, f"no more files are open than {self.fds}; now {self.files()}", PATIENCE / 3)


@pytest.mark.edge("D6", "E2")
@pytest.mark.parametrize("deed", ["kill", "leave", "garbage"])
def test_a_new_revision_that_goes_at_any_message_leaves_the_old_one_whole(start, tmp_path, deed):
    peers = Peers(start, tmp_path)
    for point in NEW_POINTS:
        if point == "confirmed" and deed != "kill":
            continue  # It has its memory, and may lose its connection.
        swap, before = peers.swap(new={"at": point, "do": deed})
        assert swap["verdict"] == "rolled-back", (point, swap)
        peers.idle()
        assert peers.whole(), point
        assert peers.add() == before, point
        peers.good_swap()
        assert peers.whole(), point
    peers.leaks_nothing()


@pytest.mark.edge("D6", "E2")
def test_a_new_revision_that_confirms_something_else_is_taken_back(start, tmp_path):
    peers = Peers(start, tmp_path)
    swap, before = peers.swap(new={"at": "loaded", "do": "lie"})
    assert swap["verdict"] == "rolled-back" and "does not repeat" in swap["why"], swap
    assert peers.whole() and peers.add() == before
    peers.good_swap()
    peers.leaks_nothing()


@pytest.mark.edge("D6")
@pytest.mark.parametrize("point", ["load", "loaded"])
def test_a_new_revision_that_stands_still_is_given_up_at_its_time(start, tmp_path, point):
    peers = Peers(start, tmp_path)
    swap, before = peers.swap(new={"at": point, "do": "stop"})
    assert swap["verdict"] == "rolled-back" and "1s" in swap["why"], swap
    assert peers.whole() and peers.add() == before
    peers.good_swap()
    peers.leaks_nothing()


@pytest.mark.edge("D6", "E2")
def test_an_old_revision_killed_at_any_message_leaves_its_memory_once_it_was_sent(start, tmp_path):
    peers = Peers(start, tmp_path)
    for point in OLD_POINTS:
        swap, _ = peers.swap(old={"at": point, "do": "kill"})
        peers.idle()
        given = point in ("acked", "release")
        if given:
            assert swap["verdict"] == "succeeded" and peers.whole(), (point, swap)
        elif not peers.whole():
            # It died with the only copy, or as its last word was on the way: the new one starts cold, not torn.
            assert peers.ask("GET", "/memory")["seen"] == {}, point
            peers.updates = 0
        eventually(peers.add, f"somebody serves after {point}")
        peers.good_swap()
        assert peers.whole(), point
    peers.leaks_nothing()


@pytest.mark.edge("D6", "E2")
@pytest.mark.parametrize("deed", ["leave", "garbage"])
def test_an_old_revision_that_breaks_off_its_export_works_on_with_its_memory(start, tmp_path, deed):
    peers = Peers(start, tmp_path)
    for point in ("export", "checkpoint", "half"):
        swap, before = peers.swap(old={"at": point, "do": deed})
        assert swap["verdict"] == "rolled-back", (point, swap)
        peers.idle()
        assert peers.whole() and peers.add() == before, point
        peers.good_swap()
        assert peers.whole(), point
    peers.leaks_nothing()


@pytest.mark.edge("D6")
@pytest.mark.parametrize("point", ["export", "half"])
def test_an_old_revision_that_stands_still_works_on_when_it_wakes(start, tmp_path, point):
    peers = Peers(start, tmp_path)
    swap, before = peers.swap(old={"at": point, "do": "stop"})
    assert swap["verdict"] == "rolled-back", swap
    peers.idle()
    assert peers.add() == before and peers.whole()
    peers.good_swap()
    assert peers.whole()
    peers.leaks_nothing()


@pytest.mark.edge("D6", "E5")
def test_a_rollback_during_the_export_does_not_leave_the_old_one_standing_still(start, tmp_path):
    peers = Peers(start, tmp_path)
    before = peers.aether.service()["pid"]
    peers.plan.write_text(json.dumps({"old": {"at": "checkpoint", "do": "wait"}}))
    code, _ = peers.aether.ask("POST", "/v1/reload", {})
    assert code == 202
    eventually((tmp_path / "plan.reached").exists, "the old one exports")
    assert peers.aether.cli("rollback", "-o", "json").returncode == 0
    (tmp_path / "plan.go").touch()
    peers.idle()
    peers.plan.unlink()
    assert peers.add() == before and peers.whole()
    peers.good_swap()
    assert peers.whole()


# ---- At random times --------------------------------------------------------------------------------


class Updates:
    """One client that sends updates all the time, and remembers who took which."""

    def __init__(self, port):
        self.port = port
        self.taken = {}
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.work)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def work(self):
        number = 0
        while not self.over.is_set():
            number += 1
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
            try:
                connection.request("POST", f"/add/{number}")
                self.taken[str(number)] = json.loads(connection.getresponse().read())["pid"]
            except (OSError, http.client.HTTPException, ValueError):
                time.sleep(0.002)  # The one who held it was killed.
            finally:
                connection.close()


@pytest.mark.edge("D6", "E5")
def test_a_new_revision_killed_at_a_random_time_takes_along_at_most_what_it_took(start, tmp_path):
    chance = random.Random(time.time_ns())
    aether = start(counter_config(program(tmp_path, "counter.py", COUNTER), soak="2s"))
    port = int(aether.service()["listeners"][0]["address"].rpartition(":")[2])
    dead = set()
    with Updates(port) as updates:
        for _ in range(6 * SOAK):
            before = aether.service()["pid"]
            code, _ = aether.ask("POST", "/v1/reload", {})
            assert code == 202
            new = eventually(lambda old=before: [i["pid"] for i in aether.service()["instances"]
                                                 if i["pid"] not in (old, *dead)], "the new one runs")
            wait = chance.uniform(0, 0.5)
            time.sleep(wait)
            for pid in new:
                os.kill(pid, signal.SIGKILL)
            dead.update(new)
            eventually(lambda: aether.service()["phase"] == "idle", "the swap is over")
            assert aether.service()["pid"] == before, f"killed after {wait:.3f}s"
            so_far = len(updates.taken)
            eventually(lambda: len(updates.taken) > so_far + 5, f"work goes on (killed after {wait:.3f}s)")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("GET", "/memory")
    seen = json.loads(connection.getresponse().read())["seen"]
    lost = {update for update in updates.taken if update not in seen}
    assert all(updates.taken[update] in dead for update in lost), lost
    assert aether.reload()["verdict"] == "succeeded"
