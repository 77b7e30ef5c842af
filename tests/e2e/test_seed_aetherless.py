# SPDX-License-Identifier: Apache-2.0
"""The files and commands of the Aetherless seed (004), as its users type them. The files are those of
examples/functions, which hold the seed's text unchanged."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import sandbox
from aether import PYTHON, eventually

EXAMPLES = Path(__file__).parents[2] / "examples" / "functions"
BAR = "═" * 62


@pytest.fixture
def machine(tmp_path):
    """A machine with its own ports and its own /opt/handlers; the YAML files lie where one stands."""
    refused = sandbox.why_not()
    if refused:
        pytest.skip(refused)
    with sandbox.Sandbox(tmp_path / "machine") as made:
        made.type("mount -t tmpfs none /opt && mkdir /opt/handlers")
        for file in EXAMPLES.glob("*.yaml"):
            shutil.copy(file, made.folder)
        yield made


def give_handler(machine, name, source=None):
    shutil.copy(EXAMPLES / (source or name), machine.folder / name)
    machine.type(f"cp {name} /opt/handlers/{name} && chmod +x /opt/handlers/{name}")


def function(machine, config, name=None):
    done = machine.type(f"aether -c {config} list -o json", check=False)
    if done.returncode != 0:
        return None
    all_of_them = json.loads(done.stdout)["functions"]
    return all_of_them[0] if name is None else next((f for f in all_of_them if f["id"] == name), None)


def until_running(machine, config, name=None):
    def running():
        found = function(machine, config, name)
        return found and found["state"] == "RUNNING" and found

    return eventually(running, f"{config} runs; output: {machine.output()}")


def test_validate_prints_the_seeds_summary(machine):
    expected = (
        "✓ Configuration is valid\n\nOrchestrator Settings:\n  SHM Buffer Size:    4194304 bytes\n"
        "  Warm Pool Size:     10\n  Restore Timeout:    15ms\n\nFunctions (1):\n"
        "  - hello-api (port: 8080, memory: 128MB, timeout: 30000ms)\n"
    )
    assert machine.type("aether validate hello.yaml").stdout == expected


@pytest.mark.parametrize("file", sorted(path.name for path in EXAMPLES.glob("*.yaml")))
def test_every_file_of_the_seed_is_valid(machine, file):
    assert machine.type(f"aether validate {file}").stdout.startswith("✓ Configuration is valid\n")


def test_hello_is_followed_from_the_first_step_to_the_last(machine):
    give_handler(machine, "hello.py")
    # script(1) gives it a terminal, where the boxes are drawn.
    machine.begin("exec script -qefc 'aether -c hello.yaml up --foreground' /dev/null")
    eventually(lambda: "Press Ctrl+C to stop..." in machine.output(), f"it has started: {machine.output()}")
    shown = re.sub(r"\x1b\[[0-9;]*m", "", machine.output()).replace("\r", "")
    assert shown.startswith(
        f"╔{BAR}╗\n║{'':14}AETHERLESS ORCHESTRATOR{'':25}║\n╚{BAR}╝\n\n▶ Spawning function: hello-api\n"
    )
    assert re.search(r"^\[hello-api\] Starting on port \d+\.\.\.$", shown, re.MULTILINE)
    assert re.search(r"^  ✓ hello-api started \(PID: \d+, Port: 8080\)$", shown, re.MULTILINE)
    assert shown.endswith(
        f"\n\n╔{BAR}╗\n║ Status: 1 functions running{'':33}║\n╠{BAR}╣\n"
        f"║ ● hello-api            → http://localhost:8080  [Running]\n╚{BAR}╝\n\nPress Ctrl+C to stop...\n"
    )

    answer = machine.type("curl http://localhost:8080/users").stdout
    assert json.loads(answer) == {
        "message": "Hello from Aetherless! 🚀",
        "function": "hello-api",
        "path": "/users",
    }
    assert answer.startswith('{\n  "message"')
    eventually(lambda: '[hello-api] "GET /users HTTP/1.1" 200 -' in machine.output(), "its request is in the log")

    machine.type("pkill -INT -x aether")
    assert machine.started[0].wait(30) == 0
    assert machine.get("http://localhost:8080/") is None
    assert machine.type("pgrep -f /opt/handlers", check=False).stdout == ""


def test_up_in_the_background_list_stats_and_down(machine):
    give_handler(machine, "api.py")
    machine.type("cp api.yaml aether.yaml")
    told = machine.type("aether up").stdout
    assert "rest-api" in told
    assert "rest-api" in machine.type("aether list").stdout
    machine.type("aether stats")
    status, body = machine.get("http://localhost:3000/users")
    assert (status, json.loads(body)) == (200, {"users": [{"id": 1, "name": "Alice"}]})
    assert machine.get("http://localhost:3000/health") == (200, '{"status": "healthy"}')
    assert machine.get("http://localhost:3000/nowhere") == (404, '{"error": "Not found"}')
    posted = machine.type("""curl -s -w ' %{http_code}' -d '{"name": "Bob"}' http://localhost:3000/users""").stdout
    assert posted == '{"created": {"name": "Bob"}} 201'
    machine.type("aether down")
    assert machine.get("http://localhost:3000/") is None
    assert machine.type("pgrep -f /opt/handlers", check=False).stdout == ""


def test_deploy_adds_functions_and_changes_those_that_run(machine):
    give_handler(machine, "hello.py")
    give_handler(machine, "api.py")
    machine.begin("exec aether -c hello.yaml up --foreground")
    until_running(machine, "hello.yaml")
    machine.type("aether deploy api.yaml")
    assert machine.get("http://localhost:3000/health") == (200, '{"status": "healthy"}')
    assert machine.get("http://localhost:8080/")[0] == 200

    changed = (EXAMPLES / "hello.py").read_text().replace("Hello from Aetherless!", "Hello again!")
    (machine.folder / "changed.py").write_text(changed)
    machine.type("cp changed.py /opt/handlers/hello.py")
    assert "revision 1 → 2" in machine.type("aether deploy hello.yaml").stdout
    assert "Hello again!" in machine.get("http://localhost:8080/")[1]
    assert machine.get("http://localhost:3000/health")[0] == 200, "functions not in the file stay"

    machine.type("echo 'raise SystemExit(3)' > /opt/handlers/hello.py")
    machine.type("sed -i '1i #!/usr/bin/env python3' /opt/handlers/hello.py")
    refused = machine.type("aether deploy hello.yaml", check=False)
    assert refused.returncode == 1 and "exited with code 3" in refused.stdout + refused.stderr
    assert "Hello again!" in machine.get("http://localhost:8080/")[1], "the old one is untouched"
    machine.type("aether rollback hello-api")
    assert "Hello from Aetherless!" in machine.get("http://localhost:8080/")[1]


def test_the_image_processor_resizes(machine):
    if subprocess.run([PYTHON, "-c", "import PIL"], capture_output=True).returncode != 0:
        pytest.skip("python3-pil is not installed everywhere")
    give_handler(machine, "image.py")
    machine.begin("exec aether -c image-processor.yaml up --foreground")
    until_running(machine, "image-processor.yaml")
    make = "from PIL import Image; Image.new('RGB', (3000, 1500), 'red').save('big.png')"
    machine.type(f'python3 -c "{make}"')
    machine.type("curl -sf -o small.webp --data-binary @big.png http://localhost:8081/")
    look = "from PIL import Image; i = Image.open('small.webp'); print(i.format, *i.size)"
    assert machine.type(f'python3 -c "{look}"').stdout == "WEBP 1024 512\n"


def test_the_rust_handler_answers(machine):
    if shutil.which("rustc") is None:
        pytest.skip("rustc is not installed everywhere")
    made = machine.folder / "rust-handler"
    subprocess.run(["rustc", "-O", "-o", made, EXAMPLES / "rust-handler.rs"], check=True)
    machine.type("cp rust-handler /opt/handlers/")
    machine.begin("exec aether -c rust-handler.yaml up --foreground")
    until_running(machine, "rust-handler.yaml")
    # It never reads the request, and closes: the answer must arrive all the same.
    for _ in range(20):
        assert machine.type("curl -sf http://localhost:9000/").stdout == '{"status":"ok"}'


def test_three_services_run_side_by_side(machine):
    for name in ("auth.py", "users.py", "notify.py"):
        give_handler(machine, name, "hello.py")
    machine.begin("exec aether -c microservices.yaml up --foreground")
    for port, name in ((9000, "auth-service"), (9001, "user-service"), (9002, "notification-service")):
        until_running(machine, "microservices.yaml", name)
        status, body = machine.get(f"http://localhost:{port}/")
        assert (status, json.loads(body)["function"]) == (200, name)
    machine.type("aether -c microservices.yaml down")
    assert machine.started[0].wait(30) == 0
