# SPDX-License-Identifier: Apache-2.0
"""The files and commands of the Aeterna seeds, as their users type them."""

import json

import pytest

import sandbox
from aether import eventually

# Seed 000.
README_CONFIG = """\
service:
  name: "agent-core"
  command: ["python", "agent.py"]

orchestration:
  mode: "hot-relay"
  soak_time: "30s"      # Soak time for canary observation (浸泡观察时间)
  state_handoff: true   # Enable memory context transfer (开启状态接力)
"""

# Seed 001.
PAGE_CONFIG = """\
version: "1.0"
service:
  name: "agent-core"
  command: ["python", "agent.py"]
  env:
    - "PYTHONUNBUFFERED=1"

orchestration:
  strategy: "hot-relay"
  canary:
    enabled: true
    soak_time: "30s"    # Soak time for canary observation (浸泡观察时间)
  state_handoff:
    enabled: true       # Enable memory context transfer (开启状态接力)
    socket_path: "/tmp/aeterna_srp.sock"

observability:
  metrics_port: ":9090"
  log_level: "info"
"""

# Seed 002.
SIMPLE_CONFIG = """\
# aeterna.yaml
service:
  command: ["python3", "my_agent.py"]
  env:
    - PORT=8080

handoff:
  # Use 'pipe' for small text, 'shm' for large tensors
  mechanism: pipe 
  timeout: 5s
"""

# The snippet of seed 001, and in the place of "Your Agent Logic" an agent that remembers each turn.
SNIPPET = """\
from aeterna import AeternaClient

client = AeternaClient()

# Inherit the listening socket
listener = client.get_listener_socket()

# Load memory context from the previous process
context = client.load_context()

"""
REMEMBERING = """
import json, os
while True:
    connection, _ = listener.accept()
    with connection, client.turn():
        path = connection.recv(65536).split()[1].decode()
        if path != "/look":
            context.setdefault("turns", []).append(path)
        body = json.dumps({"pid": os.getpid(), "turns": context.get("turns", [])}).encode()
        connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\nConnection: close\\r\\n\\r\\n%s"
                           % (len(body), body))
"""
# Seed 002: "The child process uses socket.fromfd(3, ...) instead of bind()."
FROM_FD = """\
import socket
from aeterna import AeternaClient
client = AeternaClient()
listener = socket.fromfd(3, socket.AF_INET, socket.SOCK_STREAM)
context = client.load_context()
"""
# Eight megabytes of "tensors", made once and then only handed on.
TENSORS = """\
import hashlib, json, os, socket
from aeterna import AeternaClient
client = AeternaClient()
listener = socket.fromfd(3, socket.AF_INET, socket.SOCK_STREAM)
tensors = client.load_context()
loaded = type(tensors).__name__
if not tensors:
    tensors = os.urandom(8 << 20)
    client.save_context(tensors)
while True:
    connection, _ = listener.accept()
    with connection, client.turn():
        connection.recv(65536)
        body = json.dumps({"pid": os.getpid(), "loaded": loaded, "size": len(tensors),
                           "digest": hashlib.sha256(tensors).hexdigest()}).encode()
        connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\nConnection: close\\r\\n\\r\\n%s"
                           % (len(body), body))
"""


@pytest.fixture
def machine(tmp_path):
    refused = sandbox.why_not()
    if refused:
        pytest.skip(refused)
    with sandbox.Sandbox(tmp_path / "machine") as made:
        yield made


def ask(machine, path="/look"):
    status, body = machine.eventually_get(f"http://127.0.0.1:8080{path}")
    assert status == 200
    return json.loads(body)


def revisions(machine):
    service = json.loads(machine.type("aeterna status -o json").stdout)["services"][0]
    return service


def other_pid(machine, pid):
    return eventually(
        lambda: (now := ask(machine))["pid"] != pid and now, f"a pid other than {pid} answers: {machine.output()}"
    )


def test_the_readme_is_followed_from_start_to_reload(machine):
    (machine.folder / "aeterna.yaml").write_text(README_CONFIG)
    (machine.folder / "agent.py").write_text(SNIPPET + REMEMBERING)
    machine.begin("exec aeterna start -c aeterna.yaml")
    ask(machine, "/one")
    before = ask(machine, "/two")
    assert before["turns"] == ["/one", "/two"]

    (machine.folder / "agent.py").write_text("VERSION = 2\n" + SNIPPET + REMEMBERING)
    verdict = machine.type("aeterna reload").stdout  # waits for the 30 s of soak
    assert "revision 1 → 2" in verdict
    for phase in ("preflight", "launching", "handoff", "soaking", "total", "blackout", "memory"):
        assert phase in verdict, verdict
    after = ask(machine, "/three")
    assert after["turns"] == ["/one", "/two", "/three"]
    assert after["pid"] != before["pid"]

    machine.type("pkill -TERM aeterna")
    assert machine.started[0].wait(20) == 0
    assert machine.get("http://127.0.0.1:8080/") is None


def test_kill_hup_of_what_pgrep_finds_swaps_the_agent_of_the_project_page(machine):
    (machine.folder / "aeterna.yaml").write_text(PAGE_CONFIG)
    (machine.folder / "agent.py").write_text(SNIPPET + REMEMBERING)
    machine.begin("exec aeterna start -c aeterna.yaml")
    before = ask(machine, "/thought")
    assert machine.get("http://127.0.0.1:9090/health")[0] == 200
    machine.type("test -S /tmp/aeterna_srp.sock")
    assert machine.type("pgrep aeterna").stdout.split() == machine.type("pgrep -x aeterna").stdout.split()

    machine.type("kill -HUP $(pgrep aeterna)")
    after = other_pid(machine, before["pid"])
    assert after["turns"] == ["/thought"]
    eventually(lambda: revisions(machine)["state"] == "SOAKING", "the new agent soaks")
    assert json.loads(machine.get("http://127.0.0.1:9090/v1/status")[1])["fsm_state"] == "SOAKING"
    assert 'aeterna_process_state{service="agent-core"} 1' in machine.get("http://127.0.0.1:9090/metrics")[1]

    machine.type("pkill -TERM aeterna")  # in the middle of the soak
    assert machine.started[0].wait(20) == 0
    machine.type("test ! -e /tmp/aeterna_srp.sock")


def test_pkill_hup_moves_a_small_memory_by_pipe(machine):
    (machine.folder / "aeterna.yaml").write_text(SIMPLE_CONFIG)
    (machine.folder / "my_agent.py").write_text(FROM_FD + REMEMBERING)
    machine.begin("exec aeterna start -c aeterna.yaml")
    now = ask(machine, "/0")
    for turn in range(1, 4):
        machine.type("pkill -HUP aeterna")
        now = other_pid(machine, now["pid"])
        assert now["turns"] == [f"/{n}" for n in range(turn)]
        ask(machine, f"/{turn}")
        eventually(lambda: revisions(machine)["state"] == "RUNNING", "the swap is over")
    service = revisions(machine)
    assert service["name"] == "my_agent"
    assert service["revision"] == 4
    assert service["last_swap"]["handoff"]["mechanism"] == "pipe"
    assert service["last_swap"]["reason"] == "SIGHUP"


def test_pkill_hup_moves_tensors_by_shared_memory(machine):
    (machine.folder / "aeterna.yaml").write_text(SIMPLE_CONFIG.replace("mechanism: pipe", "mechanism: shm"))
    (machine.folder / "my_agent.py").write_text(TENSORS)
    machine.begin("exec aeterna start -c aeterna.yaml")
    before = ask(machine)
    assert before["loaded"] == "dict"
    for _ in range(2):  # also on from memory that was itself received
        pid = ask(machine)["pid"]
        machine.type("pkill -HUP aeterna")
        after = other_pid(machine, pid)
        assert after["loaded"] == "memoryview"
        assert (after["size"], after["digest"]) == (8 << 20, before["digest"])
        eventually(lambda: revisions(machine)["state"] == "RUNNING", "the swap is over")
    handoff = revisions(machine)["last_swap"]["handoff"]
    assert handoff["mechanism"] == "shm"
    assert handoff["bytes"] == 8 << 20


def test_a_missing_python_is_named_with_what_there_is_instead(machine):
    (machine.folder / "bin" / "python").unlink()
    (machine.folder / "aeterna.yaml").write_text(README_CONFIG)
    (machine.folder / "agent.py").write_text(SNIPPET)
    # A machine that has python3 only, as Debian does.
    machine.begin('PATH="${PATH%%:/usr/sbin*}" exec aeterna start -c aeterna.yaml')
    eventually(lambda: "command-not-found" in machine.output(), f"it is refused; output: {machine.output()}")
    lines = machine.output().splitlines()
    assert "python3" in next(line for line in lines if "python" in line and "revision" not in line)
