# SPDX-License-Identifier: Apache-2.0
"""Jobs from the command line, with an Aether that runs and without one."""

import json
import subprocess

import pytest
from jobs import Jobs, config, http_node, without_network
from judge import Judge

GRAPH = """\
name: greet
nodes:
  - {id: hello, type: value, with: {text: "hello ${input.who}"}}
  - id: tell
    type: tool
    tool: http
    after: [hello]
    with: {method: POST, url: "URL", body: {said: "${hello.text}"}}
output: {said: "${tell.body.got.said}"}
"""


@pytest.fixture(scope="module")
def judge():
    judge = Judge()
    yield judge
    judge.close()


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with Jobs(tmp_path_factory.mktemp("jobs"), config(), name="aetheris") as running:
        yield running


@pytest.fixture(scope="module")
def run(house, judge):
    """A job that has ended, submitted as a person would."""
    file = house.folder / "greet.yaml"
    file.write_text(GRAPH.replace("URL", judge.url("/echo/tell")))
    words = ["jobs", "submit", str(file), "--input", '{"who": "Ada"}', "--key", "g1"]
    done = house.cli("-o", "json", *words, "--wait")
    assert done.returncode == 0, done.stdout + done.stderr
    job = json.loads(done.stdout)
    assert job["status"] == "completed" and job["output"] == {"said": "hello Ada"}
    again = house.cli("-o", "json", *words)
    assert json.loads(again.stdout)["id"] == job["id"]
    return job["id"]


def test_lists_and_shows(house, run):
    listed = house.cli("jobs", "list")
    assert run in listed.stdout and "completed" in listed.stdout and "greet" in listed.stdout
    parked = house.cli("-o", "json", "jobs", "list", "--status", "parked")
    assert json.loads(parked.stdout)["jobs"] == []
    shown = house.cli("jobs", "show", run)
    assert "tell" in shown.stdout and "hello Ada" in shown.stdout
    missing = house.cli("jobs", "show", "0193b5c2-0000-7000-8000-000000000000")
    assert missing.returncode == 1 and "not-found" in missing.stderr


def test_a_trace_is_a_tree_with_durations_and_json_and_otlp(house, run):
    text = house.cli("trace", run)
    assert text.returncode == 0, text.stderr
    assert "tell" in text.stdout and ("ms" in text.stdout or "µs" in text.stdout), text.stdout
    tree = json.loads(house.cli("-o", "json", "trace", run).stdout)
    assert "tell" in json.dumps(tree)
    otlp = json.loads(house.cli("trace", "--otlp", run).stdout)
    spans = otlp["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert len({span["traceId"] for span in spans}) == 1 and len(spans) >= 3
    roots = [span for span in spans if not span.get("parentSpanId")]
    assert len(roots) == 1


def test_evidence_verifies_elsewhere_and_one_changed_byte_does_not(house, run, tmp_path):
    file = tmp_path / "evidence"
    exported = house.cli("export", run, "-w", str(file))
    assert exported.returncode == 0, exported.stderr
    key = (house.folder / "jobs.db.key.pub").read_text().strip()
    told = house.cli("verify", str(file), "--key", key)
    assert told.returncode == 0 and run in told.stdout, told.stderr
    text = file.read_bytes()
    at = text.index(b"hello Ada")
    (tmp_path / "changed").write_bytes(text[:at] + b"hallo" + text[at + 5 :])
    changed = house.cli("verify", str(tmp_path / "changed"))
    assert changed.returncode == 1 and "evidence-invalid" in changed.stderr, changed.stderr
    other = house.cli("verify", str(file), "--key", key[:-8] + "AAAAAAA=")
    assert other.returncode != 0


def test_a_store_verifies_while_it_is_written(house, run):
    told = house.verified()
    assert told["events"] >= 5 and told["jobs"] >= 1


def test_what_a_command_needs_is_told(house):
    unclear = house.cli("verify")
    assert unclear.returncode == 2 and "--all" in unclear.stderr
    assert house.cli("jobs").returncode == 2
    assert house.cli("jobs", "resolve", "x").returncode == 2
    help_text = house.cli("jobs", "submit", "--help").stdout
    assert "Example: aetheris jobs submit" in help_text
    words = house.cli("words", "commands").stdout.split()
    assert {"jobs", "trace", "replay", "verify", "export", "fsck", "server"} <= set(words)


def test_a_stopped_store_is_traced_replayed_and_checked_without_a_network(tmp_path, judge):
    house = Jobs(tmp_path / "jobs", config(), command=("server", "start"))
    with house:
        graph = {
            "nodes": [
                http_node(judge, "a", "/echo/replayed", body={"n": "${input}"}),
                http_node(judge, "b", "/echo/replayed", after=["a"], body={"n": "${a.body.got.n}"}),
            ],
            "output": {"n": "${b.body.got.n}", "text": "ä\u2028 1.50"},
        }
        run = house.submit(graph, input=[1.25, "x"])
        output = house.ended(run)["output"]
        assert judge.count("/echo/replayed") == 2
        live = json.loads(house.cli("-o", "json", "replay", run).stdout)
        house.halt()
        # A config names the store; nobody runs.
        command = [str(house.binary), "-c", str(house.config), "-o", "json"]
        replayed = without_network([*command, "replay", run], env=house.env)
        if replayed is None:
            pytest.skip("needs a network namespace of its own (root, or user namespaces)")
        assert replayed.returncode == 0, replayed.stdout + replayed.stderr
        told = json.loads(replayed.stdout)
        assert told["equal"] is True and told["calls"] == 0 and told["decisions"] >= 5
        assert json.dumps(told["output"]) == json.dumps(output)
        assert told == live
        assert judge.count("/echo/replayed") == 2
        traced = without_network([*command, "trace", run], env=house.env)
        assert traced.returncode == 0 and run in traced.stdout, traced.stderr
        for action in ("fsck", "verify"):
            words = [action] if action == "fsck" else [action, "--all"]
            checked = without_network([*command, *words], env=house.env)
            assert checked.returncode == 0, checked.stdout + checked.stderr
            assert json.loads(checked.stdout)["checkpoints"] >= 1
        exported = without_network([str(house.binary), "-c", str(house.config), "export", run], env=house.env)
        assert exported.returncode == 0, exported.stderr
        (tmp_path / "evidence").write_text(exported.stdout)
        verified = without_network([str(house.binary), "verify", str(tmp_path / "evidence")], env=house.env)
        assert verified.returncode == 0, verified.stderr


def test_a_store_that_was_changed_does_not_verify(tmp_path, judge):
    with Jobs(tmp_path / "jobs", config()) as house:
        run = house.submit([http_node(judge, "a", "/echo/changed", body={"n": "unchanged"})])
        house.ended(run)
        house.halt()
        house.verified()
        store = house.folder / "jobs.db"
        data = bytearray(store.read_bytes())
        at = data.index(b"unchanged")
        data[at : at + 2] = b"is"
        store.write_bytes(data)
        done = house.cli("verify", "--all")
        assert done.returncode == 1 and "✗" in done.stdout, done.stdout + done.stderr


def test_a_second_aether_on_a_store_is_refused_with_the_pid_of_the_first(house, run, tmp_path):
    other = config()
    other["store"]["path"] = str(house.folder / "jobs.db")
    (tmp_path / "other.yaml").write_text(json.dumps(other))
    done = subprocess.run(
        [str(house.binary), "up", "-f", "-c", str(tmp_path / "other.yaml")],
        env=house.env, capture_output=True, text=True, timeout=60, check=False,
    )
    assert done.returncode == 1 and "store-in-use" in done.stderr and str(house.pid) in done.stderr


def test_a_memory_store_runs_jobs_and_says_what_it_cannot(tmp_path):
    with Jobs(tmp_path / "jobs", config(store="memory")) as house:
        run = house.submit([{"id": "v", "type": "value", "with": {"n": 1}}])
        assert house.ended(run)["status"] == "completed"
        replayed = json.loads(house.cli("-o", "json", "replay", run).stdout)
        assert replayed["equal"] is True
        done = house.cli("verify", "--all")
        assert done.returncode == 2 and "memory" in done.stderr
