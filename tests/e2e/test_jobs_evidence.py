# SPDX-License-Identifier: Apache-2.0
"""Evidence is verified by code that is not ours (Go's sumdb/note and sumdb/tlog), and whatever was changed in it
is found by that code and by Aether's, which say what is wrong."""

import base64
import json
import random
import re
import shutil
from pathlib import Path

import foreign
import pytest
from database import Database
from golden_jobs import AGENT, TOOLS, make_runs
from jobs import Jobs, config
from judge import Judge

VALUE = [{"id": "v", "type": "value", "with": {"n": 1}}]
# What one program writes in another way than another one: RFC 8785 has one way.
ODD = {
    "numbers": [1e-7, 1e-6, 1e21, 1.2345678901234568e20, -0.0, 0.1, 5e-324, 1.7976931348623157e308, 2**53],
    "texts": ["\x01\x1f\x7f\u2028\"\\/\b\f\n\r\t", "\U0001f600", "\ufffd"],
    "\U0001f600": "a name that is sorted by its UTF-16",
    "\ue000": "",
}
GOLDEN = Path(__file__).parents[1] / "compat" / "journal" / "v1.evidence"


@pytest.fixture(scope="module")
def go(tmp_path_factory):
    return foreign.built(tmp_path_factory.mktemp("go"))


def done(house, *words):
    told = house.cli(*words)
    assert told.returncode == 0, told.stderr
    return told.stdout


def proofs_of_all(house, judge):
    """{name: file} of every kind of job; and what was signed before them, between, and after."""
    house.old = house.folder / "old"
    done(house, "checkpoint", "-w", house.old)
    house.runs = make_runs(house, judge)
    house.runs["odd"] = house.submit(VALUE, input=ODD)
    house.ended(house.runs["odd"])
    house.files = {name: house.folder / f"{name}.evidence" for name in house.runs}
    for name, run in house.runs.items():
        done(house, "export", run, "-w", house.files[name])
    done(house, "jobs", "erase", house.runs["all"])
    house.erased = house.folder / "erased.evidence"
    done(house, "export", house.runs["all"], "-w", house.erased)
    house.growth = house.folder / "growth"
    done(house, "checkpoint", "--old", house.old, "-w", house.growth)
    house.key = next(house.folder.glob("*.key.pub"))


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A stopped Aether with its proofs, and in `fork` its store as it was after the first job."""
    with Judge() as judge, Jobs(tmp_path_factory.mktemp("kept"), config(agents=[AGENT], tools=TOOLS)) as house:
        house.ended(house.submit(VALUE))
        assert house.halt() == 0
        house.fork = tmp_path_factory.mktemp("fork")
        for file in house.folder.glob("jobs.db*"):
            shutil.copy(file, house.fork)
        house.again()
        house.ended(house.submit(VALUE))
        proofs_of_all(house, judge)
        assert house.halt() == 0
        yield house


def ours(kept, *files, key=None, old=None):
    """As foreign.judged: what Aether says."""
    told = {}
    words = ["-o", "json", "verify", *(["--key", key] if key else []), *(["--old", old] if old else [])]
    done = kept.cli(*words, *files, files[0])  # two files at least: a line of JSON for each
    for line in map(json.loads, done.stdout.splitlines()):
        told[Path(line["file"])] = (line["valid"], line.get("message") or json.dumps(line))
    assert set(told) == set(map(Path, files)), done.stdout + done.stderr
    return told


def both(go, kept, *files, **how):
    return {**foreign.judged(go, *files, **how)}, ours(kept, *files, **how)


def base64_of_all(file):
    """All contents of blobs."""
    lines = [line.split() for line in file.read_bytes().splitlines()]
    return b"".join(base64.b64decode(words[2]) for words in lines if len(words) == 3 and len(words[0]) == 44)


def check_all(go, house):
    files = list(house.files.values())
    for judged in both(go, house, *files, key=house.key):
        assert all(good for good, _ in judged.values()), judged
    told = foreign.judged(go, *files, key=house.key)
    for name, file in house.files.items():
        what = dict(word.split("=") for word in told[file][1].split())
        assert what["stream"] == house.runs[name] and what["erased"] == "0", what
    whole = dict(word.split("=") for word in told[house.files["all"]][1].split())
    assert int(whole["blobs"]) >= 1 and int(whole["turns"]) >= 4 and int(whole["events"]) > 40, whole
    for judged in both(go, house, house.growth, key=house.key, old=house.old):
        assert judged[house.growth][0], judged
    for judged in both(go, house, house.erased, key=house.key):
        good, what = judged[house.erased]
        assert good and (re.search("erased=[1-9]", what) or json.loads(what)["blobs_erased"] >= 1), what
    assert b"zzzzzzzz" in base64_of_all(house.files["all"]) and b"zzzzzzzz" not in base64_of_all(house.erased)
    # The key that is printed is a key of Go's as it is.
    printed = house.key.read_text().strip()
    assert foreign.judged(go, files[0], key=printed)[files[0]][0]


def test_go_verifies_every_kind_of_job_and_that_the_journal_only_grew(go, kept):
    check_all(go, kept)
    good, told = foreign.judged(go, GOLDEN)[GOLDEN]  # of the first release that wrote any
    assert good and "erased=1" in told, told
    for old in (kept.old, kept.growth, kept.files["all"]):  # whatever has a checkpoint in it
        told = json.loads(done(kept, "-o", "json", "verify", "--all", "--old", old))
        assert told["valid"] and not told["findings"], told


def test_go_verifies_the_evidence_of_a_store_in_postgresql(go, tmp_path):
    with Judge() as judge, Database() as database:
        settings = config(agents=[AGENT], tools=TOOLS)
        settings["store"] = {"type": "postgres", "path": database.url}
        with Jobs(tmp_path / "house", settings) as house:
            house.ended(house.submit(VALUE))
            proofs_of_all(house, judge)
            check_all(go, house)


def test_two_hundred_changed_bytes_are_found(go, kept, tmp_path):
    chance = random.Random(20261121)
    wholes = [file.read_bytes() for file in kept.files.values()]
    growth = kept.growth.read_bytes()
    changed, grown = [], []
    for number in range(200):
        whole = chance.choice(wholes) if number % 10 else growth
        # Every other one in the last lines, which are few: proof, checkpoint, signature.
        at = chance.randrange(max(0, len(whole) - 700) if number % 2 else 0, len(whole))
        byte = whole[at] ^ chance.choice([1, 2, 4, 8, 16, 32, 64, 128])
        file = tmp_path / f"{number}.at{at}"
        file.write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])
        (changed if number % 10 else grown).append(file)
    # Without a key that is trusted: what was changed is in the file alone.
    judged = [*both(go, kept, *changed), *both(go, kept, *grown, key=kept.key, old=kept.old)]
    assert sum(map(len, judged)) == 400
    unnoticed = [str(file) for each in judged for file, (good, _) in each.items() if good]
    assert not unnoticed


class Parts:
    """A file of evidence, in pieces that can be put together otherwise."""

    def __init__(self, file):
        lines = file.read_text().split("\n")
        self.head, count = lines[:3], int(lines[3].split()[1])
        self.events = lines[4 : 4 + count]
        rest = lines[4 + count :]
        at = rest.index("checkpoint")
        self.middle, self.note = rest[:at], rest[at + 1 :]

    def write(self, file):
        events = [f"events {len(self.events)}", *self.events]
        file.write_text("\n".join([*self.head, *events, *self.middle, "checkpoint", *self.note]))
        return file


def reordered(parts, _):
    parts.events[3], parts.events[4] = parts.events[4], parts.events[3]


def renumbered(parts, _):
    first, second = json.loads(parts.events[3]), json.loads(parts.events[4])
    for name in ("position", "sequence"):
        first[name], second[name] = second[name], first[name]
    texts = [json.dumps(one, separators=(",", ":"), ensure_ascii=False) for one in (second, first)]
    parts.events[3:5] = texts


def last_one_less(parts, _):
    parts.events.pop()


def other_run(parts, other):
    parts.events, parts.middle = other.events, other.middle


def other_run_by_its_name(parts, other):
    parts.head[2] = other.head[2]
    parts.events, parts.middle = other.events, [*other.middle[:-1], *parts.middle[-1:]]


def blob_less(parts, _):
    at = next(at for at, line in enumerate(parts.middle) if line.startswith("blobs "))
    count = int(parts.middle[at].split()[1])
    assert count >= 1
    parts.middle[at : at + 2] = [f"blobs {count - 1}"]


def other_journal(parts, _):
    parts.note = Parts(GOLDEN).note


def other_journal_and_its_key(parts, _):
    golden = Parts(GOLDEN)
    parts.head[1], parts.note = golden.head[1], golden.note


CHANGES = {  # what Go says, and what Aether says
    reordered: ("not in their order", "come twice|missing"),
    renumbered: ("mark|tree that was signed|settled|span", "span|root that was signed"),
    last_one_less: ("proof|tree that was signed", "root that was signed"),
    other_run: ("of the stream", "of another stream"),
    other_run_by_its_name: ("proof|tree that was signed", "root that was signed"),
    blob_less: ("blobs", "blobs"),
    other_journal: ("signature", "signature"),
    other_journal_and_its_key: ("position|proof|tree", "position|root that was signed"),
}


def named(words, said):
    return any(word in said for word in words.split("|"))


def test_what_was_moved_left_out_or_put_in_place_of_something_else_is_named(go, kept, tmp_path):
    files = {}
    for change in CHANGES:
        parts = Parts(kept.files["all"])
        change(parts, Parts(kept.files["forked"]))
        files[parts.write(tmp_path / change.__name__)] = CHANGES[change]
    theirs, told = both(go, kept, *files)
    for file, (by_go, by_us) in files.items():
        assert not theirs[file][0] and named(by_go, theirs[file][1]), (file.name, theirs[file])
        assert not told[file][0] and named(by_us, told[file][1]), (file.name, told[file])


def test_no_beginning_of_a_file_is_a_file(go, kept, tmp_path):
    whole = kept.files["saga"].read_bytes()
    chance = random.Random(7)
    lengths = {0, 1, len(whole) - 1, len(whole) - 2, *(chance.randrange(len(whole)) for _ in range(30))}
    cut = [tmp_path / str(length) for length in sorted(lengths)]
    for file in cut:
        file.write_bytes(whole[: int(file.name)])
    for judged in both(go, kept, *cut):
        assert not [file for file, (good, _) in judged.items() if good]


def test_who_has_the_store_and_not_the_key_is_told_by_the_key(go, kept, tmp_path):
    shutil.copy(kept.folder / "jobs.db", tmp_path)
    shutil.copy(kept.config, tmp_path / "aeterna.yaml")
    theirs = tmp_path / "theirs"
    told = kept.on_copy(tmp_path, "export", kept.runs["all"], "-w", theirs)
    assert told.returncode == 0, told.stderr
    assert all(judged[theirs][0] for judged in both(go, kept, theirs)), "it is whole in itself"
    for judged in both(go, kept, theirs, key=kept.key):
        assert not judged[theirs][0] and "is trusted" in judged[theirs][1], judged


def test_a_journal_that_was_set_back_does_not_grow_from_what_was_kept(go, kept, tmp_path):
    shutil.copy(kept.config, kept.fork / "aeterna.yaml")
    # As long as it is shorter, it cannot even try.
    told = kept.on_copy(kept.fork, "checkpoint", "--old", kept.old)
    assert told.returncode == 1 and "set back" in told.stderr, told.stderr
    told = kept.on_copy(kept.fork, "verify", "--all", "--old", kept.old)
    assert told.returncode == 1 and "later than the last event" in told.stdout, told.stdout
    with Jobs(kept.fork, config()) as fork:
        code, _, answer = fork.request("GET", "/v1/checkpoint?old=1000")
        assert code == 409 and answer["code"] == "evidence-invalid" and "set back" in answer["detail"], answer
        for _ in range(3):
            fork.ended(fork.submit(VALUE))
        done(fork, "checkpoint", "--old", kept.old, "-w", tmp_path / "forked")
        shorter = tmp_path / "shorter"
        done(fork, "checkpoint", "-w", shorter)
        assert "signed by" in done(fork, "verify", shorter, "--key", kept.key)
        told = fork.cli("verify", "--all", "--old", kept.old)
        assert told.returncode == 1 and "checkpoint" in told.stdout, told.stdout
    (tmp_path / "back").write_text(f"old {10**6}\n\n" + shorter.read_text())
    (tmp_path / "swapped").write_bytes(kept.growth.read_bytes())
    cases = [
        (tmp_path / "forked", kept.old, "does not begin with"),  # the same key, and another history
        (tmp_path / "back", kept.growth, "set back"),
        (tmp_path / "swapped", shorter, "from size"),
        (kept.growth, GOLDEN, "signature"),  # what was kept is another journal's
    ]
    for file, old, what in cases:
        for judged in both(go, kept, file, key=kept.key, old=old):
            assert not judged[file][0] and what in judged[file][1], (old, judged)
