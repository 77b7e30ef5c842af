# SPDX-License-Identifier: Apache-2.0
"""The command line: what it says, what it ends with, and that a machine can read it."""

import json
import os
import pty
import re
import select
import signal
import subprocess

import pytest

from aether import BINARY, PATIENCE, PYTHON, Aether, eventually, free_port
from programs import ASYNCIO, program

COMMANDS = ["up", "start", "down", "reload", "rollback", "status", "list", "logs", "inspect", "validate", "doctor",
            "exec", "completion", "token", "deploy", "stats", "invoke"]


def run(*words, name="aether", **options):
    env = {**os.environ, **options.pop("env", {})}
    return subprocess.run([str(BINARY.parent / name), *words], capture_output=True, text=True, timeout=PATIENCE,
                          env=env, **options)


def config_of(folder, name="web", **more):
    return {
        "service": {"name": name, "command": program(folder, f"{name}.py", "print('hello there')\n" + ASYNCIO),
                    "listen": f"127.0.0.1:{free_port()}", "stop_timeout": "2s", **more},
        "orchestration": {"soak_time": "0s"},
        "observability": {"metrics_port": "none"},
    }


# ---- help and usage


@pytest.mark.parametrize("name", ["aether", "aeterna", "aetheris"])
def test_each_name_tells_its_version_and_help(name):
    done = run("--version", name=name)
    assert done.returncode == 0 and re.fullmatch(rf"{name} \d+\.\d+\.\d+\n", done.stdout), done.stdout
    done = run("--help", name=name)
    assert done.returncode == 0
    assert f"Example: {name} up" in done.stdout
    for command in COMMANDS:
        assert re.search(rf"^  {command}\b", done.stdout, re.M), command


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_an_example(command):
    done = run(command, "--help")
    assert done.returncode == 0
    assert f"Example: aether {command}" in done.stdout


@pytest.mark.parametrize(
    "words", [[], ["fly"], ["up", "--fast"], ["status", "-o", "yaml"], ["completion", "tcsh"], ["exec"],
              ["logs", "-n", "many"], ["-c"], ["status", "a", "b"], ["deploy"], ["invoke"],
              ["stats", "--watch", "--dashboard"], ["invoke", "a", "/", "more"]])
def test_what_is_not_understood_ends_with_2_and_says_so_on_stderr(words):
    done = run(*words)
    assert done.returncode == 2, done
    assert done.stderr and not done.stdout


def test_what_is_refused_ends_with_1_and_says_what_to_do(tmp_path):
    env = {"AETHER_RUNTIME_DIR": str(tmp_path / "run")}
    for words in (["status"], ["reload"], ["down"], ["logs"], ["list"], ["rollback"], ["inspect"],
                  ["stats"], ["deploy", "x.yaml"], ["-c", "x.yaml", "status"]):
        done = run(*words, env=env, cwd=tmp_path)
        assert done.returncode == 1, words
        assert "not-running" in done.stderr and "aether up" in done.stderr, done.stderr
    done = run("up", "-c", "nothing.yaml", env=env, cwd=tmp_path)
    assert done.returncode == 1 and "nothing.yaml" in done.stderr
    done = run("exec", "--", "/nowhere/at-all")
    assert done.returncode == 127 and "/nowhere/at-all" in done.stderr


def test_a_runtime_folder_too_long_for_sockets_is_refused_at_once(tmp_path):
    (tmp_path / "a.yaml").write_text(json.dumps(config_of(tmp_path)))
    done = run("up", "-f", "-c", "a.yaml", env={"AETHER_RUNTIME_DIR": "/tmp/" + "x" * 90}, cwd=tmp_path)
    assert done.returncode == 1 and "AETHER_RUNTIME_DIR" in done.stderr, done.stderr


# ---- validate and the other tools


HELLO = """\
functions:
  - id: hello-api
    memory_limit_mb: 128
    trigger_port: 8080
    handler_path: /opt/handlers/hello.py
    timeout_ms: 30000
    environment:
      PYTHONUNBUFFERED: "1"
"""
HELLO_IS_VALID = """\

✓ Configuration is valid

Orchestrator Settings:
  SHM Buffer Size:    4194304 bytes
  Warm Pool Size:     10
  Restore Timeout:    15ms

Functions (1):
  - hello-api (port: 8080, memory: 128MB, timeout: 30000ms)
"""


def test_validate_prints_what_the_seed_shows(tmp_path):
    (tmp_path / "hello.yaml").write_text(HELLO)
    assert run("validate", "hello.yaml", cwd=tmp_path).stdout.strip("\n") == HELLO_IS_VALID.strip("\n")
    for words in (["-c", "hello.yaml", "validate"], ["validate", "-c", "hello.yaml"], ["-v", "validate", "hello.yaml"]):
        assert "✓ Configuration is valid" in run(*words, cwd=tmp_path).stdout
    assert json.loads(run("-o", "json", "validate", "hello.yaml", cwd=tmp_path).stdout)["valid"] is True


def test_validate_tells_every_mistake_with_its_place(tmp_path):
    (tmp_path / "bad.yaml").write_text("service:\n  comand: [x]\n  restart: sometimes\nhandof: {}\n")
    done = run("validate", "bad.yaml", cwd=tmp_path)
    assert done.returncode == 1 and not done.stdout
    for place in ("bad.yaml:2:3:", "bad.yaml:3:12:", "bad.yaml:4:1:"):
        assert place in done.stderr, done.stderr
    assert "command" in done.stderr and "handoff" in done.stderr
    assert run("up", "-f", "-c", "bad.yaml", cwd=tmp_path).returncode == 1


def test_doctor_names_what_it_tried(tmp_path):
    findings = json.loads(run("doctor", "-o", "json").stdout)
    assert all(set(finding) == {"what", "grade", "found"} for finding in findings)
    assert {finding["grade"] for finding in findings} <= {"ok", "lacking", "missing"}
    assert "steering of new connections" in run("doctor").stdout


def test_the_configuration_reference_is_the_one_in_docs():
    printed = run("config-reference").stdout
    assert printed.startswith("# Configuration")
    assert "soak_time" in printed and "state_handoff" in printed


@pytest.mark.parametrize("shell,check", [("bash", ["bash", "-n"]), ("zsh", ["zsh", "-n"]), ("fish", ["fish", "-n"])])
def test_completion_scripts_are_scripts_of_their_shell(tmp_path, shell, check):
    script = tmp_path / f"script.{shell}"
    script.write_text(run("completion", shell).stdout)
    if subprocess.run(["which", shell], capture_output=True).returncode != 0:
        pytest.skip(f"{shell} is not installed")
    subprocess.run([*check, str(script)], check=True)


def test_bash_completes_commands_options_and_services(start, tmp_path):
    aether = start(config_of(tmp_path, "websrv"))

    def complete(*words):
        line = " ".join(f"'{word}'" for word in words)
        script = f"""source <(aether completion bash); complete -p aether aeterna aetheris >/dev/null || exit 1
COMP_WORDS=(aether {line}); COMP_CWORD={len(words)}; _aether; printf '%s\\n' "${{COMPREPLY[@]}}" """
        env = {**aether.env, "PATH": f"{BINARY.parent}:{os.environ['PATH']}"}
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=env, cwd=aether.folder)
        assert done.returncode == 0 and not done.stderr, done.stderr
        return done.stdout.split()

    assert complete("rel") == ["reload"]
    assert complete("reload", "") == ["websrv"]
    assert complete("-o", "j") == ["json"]
    assert complete("token", "--role", "op") == ["operator"]
    assert complete("inspect", "") == ["websrv"]
    assert complete("completion", "z") == ["zsh"]
    assert "config-reference" not in complete("")


LISTEN_PID = "import os; print('told', os.environ['LISTEN_PID'], 'is', os.getpid(), flush=True)\n"


def test_exec_sets_listen_pid_behind_a_shell(start, tmp_path):
    # The shell stays the parent (a second command follows), so that the program's pid is not the one Aether knew.
    command, script = program(tmp_path, "app.py", LISTEN_PID + ASYNCIO)
    line = f"{BINARY} exec -- {command} {script}; echo over"
    aether = start({"service": {"name": "web", "command": ["sh", "-c", line], "listen": f"127.0.0.1:{free_port()}"},
                    "observability": {"metrics_port": "none"}})
    told = re.search(r"told (\d+) is (\d+)", eventually(lambda: aether.cli("logs").stdout, "it has told"))
    assert told.group(1) == told.group(2)
    assert int(told.group(2)) != aether.service()["pid"]


# ---- a running Aether


def has_ended(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"  # its parent has not looked yet
    except OSError:
        return True


def test_the_background_is_started_looked_at_and_stopped(tmp_path):
    aether = Aether(tmp_path / "a", config_of(tmp_path))
    try:
        done = aether.cli("up")
        assert done.returncode == 0, done.stderr
        assert "runs in the background" in done.stdout and "RUNNING" in done.stdout
        status = json.loads(aether.cli("status", "-o", "json").stdout)
        assert status["services"][0]["state"] == "RUNNING"
        assert os.getsid(status["pid"]) == status["pid"], "it has a session of its own"

        again = aether.cli("up")
        assert again.returncode == 1 and "already-running" in again.stderr and "aether down" in again.stderr
        again = aether.cli("up", "-f")
        assert again.returncode == 1 and "already-running" in again.stderr

        assert aether.cli("reload").returncode == 0
        assert "hello there" in aether.cli("logs").stdout
        assert aether.cli("down").returncode == 0
        assert has_ended(status["pid"])
        assert aether.cli("down").returncode == 1
    finally:
        aether.cli("down")
        aether.stop()


def test_a_background_start_that_fails_says_why(tmp_path):
    config = config_of(tmp_path)
    with Aether(tmp_path / "one", config):
        other = Aether(tmp_path / "two", config)  # the same port
        done = other.cli("up")
        assert done.returncode == 1
        assert "address-in-use" in done.stderr and config["service"]["listen"] in done.stderr, done.stderr
        other.stop()


def test_every_answer_can_be_had_as_json(start, tmp_path):
    aether = start(config_of(tmp_path))
    for words in (["status"], ["status", "web"], ["list"], ["inspect"], ["token"], ["reload"],
                  ["reload", "--no-wait"], ["rollback"]):
        eventually(lambda: aether.service()["phase"] == "idle", "no swap runs")
        for line in (["-o", "json", *words], [*words, "-o", "json"]):
            eventually(lambda: aether.service()["phase"] == "idle", "no swap runs")
            done = aether.cli(*line)
            assert done.returncode == 0, (line, done.stderr)
            assert isinstance(json.loads(done.stdout), dict), line
    refused = aether.cli("reload", "nothing", "-o", "json")
    assert refused.returncode == 1 and set(json.loads(refused.stderr)) == {"code", "detail", "cure"}
    lines = aether.cli("logs", "-o", "json").stdout.splitlines()
    assert lines and all("text" in json.loads(line) for line in lines)
    eventually(lambda: aether.service()["phase"] == "idle", "no swap runs")
    assert json.loads(aether.cli("-o", "json", "down").stdout) == {"stopped": aether.pid}


def test_several_aethers_are_told_apart_by_their_files(start, tmp_path):
    one = start(config_of(tmp_path, "one"))
    two = Aether(tmp_path / "two", config_of(tmp_path, "two"), env={"AETHER_RUNTIME_DIR": str(one.runtime)})
    subprocess.run(["rm", "-rf", str(two.runtime)], check=True)
    two.runtime = one.runtime
    two.start(wait=False)
    try:
        eventually(lambda: two.cli("status").returncode == 0, "the second one serves")
        assert two.cli("list", "-o", "json").stdout.count('"two"') == 1
        done = run("status", env=one.env, cwd="/")
        assert done.returncode == 2 and "several Aethers run" in done.stderr and "-c FILE" in done.stderr
        assert run("status", env=one.env, cwd=one.folder).stdout.startswith("● one"), "the file in the folder is meant"
    finally:
        two.process.send_signal(signal.SIGTERM)
        two.process.wait(PATIENCE)


def test_several_services_must_be_named(start, tmp_path):
    one, two = config_of(tmp_path, "one"), config_of(tmp_path, "two")
    aether = start({"services": [one["service"], two["service"]], "observability": {"metrics_port": "none"}})
    done = aether.cli("logs")
    assert done.returncode == 2 and "one, two" in done.stderr
    assert aether.cli("logs", "two").returncode == 0
    assert aether.cli("reload", "two").stdout.startswith("✓ two")
    assert aether.service("one")["revision"] == 1
    assert aether.cli("status", "three").returncode == 1


@pytest.mark.edge("H4")
def test_logs_are_followed_over_a_swap(start, tmp_path):
    aether = start(config_of(tmp_path))
    follow = subprocess.Popen([str(aether.binary), "-c", str(aether.config), "logs", "-f"], env=aether.env,
                              stdout=subprocess.PIPE, text=True)
    try:
        assert "[web r1] hello there" in follow.stdout.readline()
        assert aether.cli("reload").returncode == 0
        assert "[web r2] hello there" in follow.stdout.readline()
    finally:
        follow.send_signal(signal.SIGINT)
        follow.wait(PATIENCE)
        follow.stdout.close()


# ---- colours


def on_a_terminal(words, env):
    """What a terminal gets to see."""
    master, slave = pty.openpty()
    process = subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave, env={**env, "TERM": "xterm-256color"})
    os.close(slave)
    seen = b""
    while select.select([master], [], [], PATIENCE)[0]:
        try:
            piece = os.read(master, 65536)
        except OSError:
            break
        if not piece:
            break
        seen += piece
    os.close(master)
    process.wait(PATIENCE)
    return seen


def test_colours_are_for_terminals_and_for_those_who_want_them(start, tmp_path):
    aether = start(config_of(tmp_path))
    words = [str(aether.binary), "-c", str(aether.config), "status"]
    env = {key: value for key, value in aether.env.items() if key != "NO_COLOR"}
    assert b"\x1b[" in on_a_terminal(words, env)
    assert b"\x1b[" not in on_a_terminal(words, {**env, "NO_COLOR": "1"})
    assert "\x1b[" not in aether.cli("status").stdout
    assert "\x1b[" not in aether.text()
