# SPDX-License-Identifier: Apache-2.0
"""A store that somebody changed: each change of what was recorded is found, and its place is named."""

import json
import shutil
import sqlite3

import pytest
from jobs import Jobs, config, http_node
from judge import Judge


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A stopped Aether whose store has a run of six events and a large value."""
    with Judge() as judge, Jobs(tmp_path_factory.mktemp("kept"), config()) as house:
        nodes = [
            http_node(judge, "small", "/echo/small", body={"text": "unchanged"}),
            http_node(judge, "large", "/echo/large", after=["small"], body={"text": "y" * 9000}),
        ]
        house.run = house.submit(nodes)
        house.ended(house.run)
        house.last = house.events(house.run)[-1]["position"]
        assert house.halt() == 0
        house.verified()
        yield house


@pytest.fixture
def store(kept, tmp_path):
    """A copy of the store, with a configuration that names it."""
    for file in kept.folder.glob("jobs.db*"):
        shutil.copy(file, tmp_path / file.name)
    shutil.copy(kept.config, tmp_path / "aeterna.yaml")
    return tmp_path


def look(kept, store, *words):
    """(exit code, its JSON) of a command on the copy."""
    done = kept.on_copy(store, "-o", "json", *words)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout) if done.stdout else {"findings": [done.stderr]}


NOTE = "replace(note, 'aether-journal', 'aether-journey')"
CANCELLED = "replace(CAST(value AS TEXT), 'completed', 'cancelled')"
CHANGES = {
    "a body": ("UPDATE event SET body = replace(body, 'unch', 'is ch') WHERE position = {at}", "position {at}"),
    "a time": ("UPDATE event SET at = at + 1 WHERE position = {at}", "position {at}"),
    "an actor": ("UPDATE event SET actor = 'somebody' WHERE position = {at}", "position {at}"),
    "a kind": ("UPDATE event SET kind = kind || 'x' WHERE position = {at}", "position {at}"),
    "a fence": ("UPDATE event SET fence = fence + 1 WHERE position = {at}", "position {at}"),
    "a hash": ("UPDATE event SET leaf = zeroblob(32) WHERE position = {at}", "position {at}"),
    "a hole": ("DELETE FROM event WHERE position = {at}", "position"),
    "a shorter end": ("DELETE FROM event WHERE position >= {at}", "checkpoint"),
    "a blob": ("UPDATE blob SET content = CAST(CAST(content AS TEXT) || 'x' AS BLOB)", "blob"),
    "a checkpoint": (f"UPDATE checkpoint SET note = {NOTE}", "checkpoint"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_found_and_its_place_is_named(kept, store, what):
    statement, named = CHANGES[what]
    with sqlite3.connect(store / "jobs.db") as database:
        (at,) = database.execute("SELECT min(position) FROM event WHERE body LIKE '%unchanged%'").fetchone()
        changed = database.execute(statement.format(at=at)).rowcount
        assert changed >= 1
    database.close()
    code, told = look(kept, store, "verify", "--all")
    assert code == 1, told
    assert any(named.format(at=at) in finding for finding in told["findings"]), (what, told)


def test_two_events_that_changed_places_are_found(kept, store):
    with sqlite3.connect(store / "jobs.db") as database:
        database.execute("UPDATE event SET position = -1 WHERE position = 2")
        database.execute("UPDATE event SET position = 2 WHERE position = 3")
        database.execute("UPDATE event SET position = 3 WHERE position = -1")
    database.close()
    code, told = look(kept, store, "verify", "--all")
    assert code == 1 and any("position" in finding for finding in told["findings"]), told


def test_one_flipped_bit_in_the_file_of_any_event_is_found(kept, store):
    with sqlite3.connect(store / "jobs.db") as database:
        bodies = database.execute("SELECT position, CAST(body AS BLOB) FROM event").fetchall()
    database.close()
    file = store / "jobs.db"
    whole = file.read_bytes()
    tried = 0
    for position, body in bodies:
        if whole.count(body) != 1:
            continue  # e.g. two leases of one millisecond
        data = bytearray(whole)
        data[whole.index(body) + len(body) // 2] ^= 1
        file.write_bytes(data)
        code, told = look(kept, store, "verify", "--all")
        assert code == 1 and any(f"position {position}" in one for one in told["findings"]), (position, told)
        tried += 1
    assert tried >= 6


INDEXES = {
    "the list of jobs": "DELETE FROM record WHERE view = 'run'",
    "the status in the list": f"UPDATE record SET value = CAST({CANCELLED} AS BLOB) WHERE view = 'run'",
    "a job that is ready": "INSERT INTO record VALUES('ready', CAST('x' AS BLOB), CAST('x' AS BLOB))",
    "a stream": "UPDATE stream SET last = last + 1",
}


@pytest.mark.parametrize("what", INDEXES)
def test_fsck_finds_an_index_that_is_not_made_from_the_events(kept, store, what):
    code, told = look(kept, store, "fsck")
    assert code == 0 and told["valid"], told
    with sqlite3.connect(store / "jobs.db") as database:
        assert database.execute(INDEXES[what]).rowcount >= 1
    database.close()
    code, told = look(kept, store, "fsck")
    assert code == 1 and told["findings"], (what, told)
    code, told = look(kept, store, "fsck", "--repair")
    if what == "a stream":
        assert code == 1 and told["findings"], "what the events are counted by is not derived from them"
    else:
        assert code == 0 and told["valid"], told


def test_an_erased_value_leaves_every_proof_valid(kept, store):
    with sqlite3.connect(store / "jobs.db") as database:
        assert database.execute("UPDATE blob SET content = NULL, salt = NULL").rowcount >= 1
    database.close()
    code, told = look(kept, store, "verify", "--all")
    assert code == 0 and told["valid"], told
    done = kept.on_copy(store, "export", kept.run, "-w", str(store / "evidence"))
    assert done.returncode == 0, done.stderr
    code, told = look(kept, store, "verify", str(store / "evidence"))
    assert code == 0 and told["blobs_erased"] >= 1, told


def test_evidence_in_which_anything_was_changed_does_not_verify(kept, store):
    done = kept.on_copy(store, "export", kept.run, "-w", str(store / "evidence"))
    assert done.returncode == 0, done.stderr
    whole = (store / "evidence").read_bytes()
    code, told = look(kept, store, "verify", str(store / "evidence"))
    assert code == 0 and told["stream"] == kept.run
    lines = whole.split(b"\n")
    for number, line in enumerate(lines[:-1]):
        if not line:
            continue
        middle = len(line) // 2
        # Another letter of the same kind: what it says is another thing, and not only broken.
        other = b"B" if line[middle : middle + 1] != b"B" else b"C"
        changed = [*lines[:number], line[:middle] + other + line[middle + 1 :], *lines[number + 1 :]]
        (store / "changed").write_bytes(b"\n".join(changed))
        done = kept.on_copy(store, "verify", str(store / "changed"))
        assert done.returncode != 0, (number, line[:200])
    (store / "changed").write_bytes(whole + b"more\n")
    assert kept.on_copy(store, "verify", str(store / "changed")).returncode != 0
