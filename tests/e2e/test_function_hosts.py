# SPDX-License-Identifier: Apache-2.0
"""Functions where Aether may do less: as an ordinary user, without the right to trace; with a namespace a copy."""

import json
import os
import pathlib
import shutil
import subprocess

import pytest

import handlers
from aether import BINARY, PATIENCE, PYTHON, SDK, Aether, eventually, free_port
from test_function_languages import ask, state, warm

COPIES = 3
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user, and make namespaces")

# Refuses ptrace() to itself and all that it starts, as filters of containers do (man 2 seccomp, "Filters").
WITHOUT_PTRACE = """
import ctypes, os, struct, sys
PTRACE, ALLOW, REFUSE = 101, 0x7fff0000, 0x00050001
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, PTRACE), (0x06, 0, 0, REFUSE), (0x06, 0, 0, ALLOW)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
class Program(ctypes.Structure):
    _fields_ = [("steps", ctypes.c_ushort), ("code", ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
program = Program(len(steps), ctypes.addressof(code))
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.byref(program)) == 0
os.execvp(sys.argv[1], sys.argv[1:])
"""


def config_of(path, **keys):
    # A busy machine may need longer than the default's 15 ms for a copy.
    return {"orchestrator": {"restore_timeout_ms": 100, "warm_pool_size": COPIES},
            "functions": [handlers.function(path, free_port(), **keys)], "observability": {"metrics_port": "none"}}


def all_warm(aether, count=COPIES):
    return eventually(lambda: len(warm(now := state(aether))) == count and now, f"{count} are warm: {state(aether)}")


def said_by(found):
    return [json.loads(ask(one["port"])[1]) for one in warm(found)]


def left_of(folder):
    return subprocess.run(["pgrep", "-f", str(folder / "handler")], capture_output=True, text=True).stdout


@ROOT_ONLY
@pytest.mark.parametrize("sandbox", ["basic", "strict"])
def test_an_ordinary_user_has_copies_too(open_folder, sandbox):
    binary = shutil.copy(BINARY, open_folder / "aether")
    path = handlers.build("python", open_folder / "handler")
    keys = {"min_instances": COPIES, "max_instances": COPIES + 1, "sandbox": sandbox}
    shutil.copytree(SDK.parent, open_folder / "sdk", ignore=shutil.ignore_patterns("tests", "__pycache__"))
    drop = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "--bounding-set=-all", "--no-new-privs"]
    aether = Aether(open_folder / "aether0", config_of(path, **keys), name=binary, wrap=drop,
                    env={"AETHER_SDK": str(open_folder / "sdk")})
    os.chown(aether.runtime, 1000, 1000)
    with aether:
        found = all_warm(aether)
        assert found["launch"] == "clone", found["not_cloneable"]
        said = said_by(found)
        assert {each["pid"] for each in said} == {one["pid"] for one in warm(found)}
        assert len({each["random"] for each in said}) == COPIES, found["notes"]
        for each in said:
            assert pathlib.Path(f"/proc/{each['pid']}").stat().st_uid == 1000
        assert ask(found["trigger_port"])[0] == 200
        assert aether.stop() == 0
    assert left_of(open_folder) == ""


def test_without_the_right_to_trace_it_serves_and_says_why_it_makes_no_copies(tmp_path):
    path = handlers.build("python", tmp_path / "handler")
    # A sanitizer looks for leaks by ptrace.
    env = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}
    with Aether(tmp_path, config_of(path, max_instances=2), wrap=[PYTHON, "-c", WITHOUT_PTRACE], env=env) as aether:
        found = state(aether)
        assert (found["state"], found["launch"]) == ("RUNNING", "spawn"), found
        assert any("ptrace" in why for why in found["not_cloneable"]), found
        assert ask(found["trigger_port"])[0] == 200
        assert "ptrace" in aether.cli("inspect", "fn", check=True).stdout
        only = config_of(path, launch="clone")
        only["functions"][0]["trigger_port"] = found["trigger_port"]
        (tmp_path / "only.yaml").write_text(json.dumps(only))
        done = aether.cli("deploy", "only.yaml")
        assert done.returncode == 1 and "ptrace" in done.stdout + done.stderr, done
        assert ask(found["trigger_port"])[0] == 200
        for wrap, grade in (([], "ok"), ([PYTHON, "-c", WITHOUT_PTRACE], "lacking")):
            done = subprocess.run([*wrap, str(BINARY), "doctor", "-o", "json"], capture_output=True, text=True,
                                  env={**os.environ, **env}, timeout=PATIENCE)
            told = next(one for one in json.loads(done.stdout) if one["what"].startswith("copies of handlers"))
            assert told["grade"] == grade and (grade == "ok" or "ptrace" in told["found"]), told
    assert left_of(tmp_path) == ""


@ROOT_ONLY
@pytest.mark.parametrize("name", ["python", "asyncio"])
def test_each_copy_in_a_namespace_is_process_1_there_and_ends_with_the_function(tmp_path, name):
    path = handlers.build(name, tmp_path / "handler")
    keys = {"pid_namespace": True, "min_instances": COPIES, "max_instances": COPIES, "idle_timeout": "200ms"}
    with Aether(tmp_path, config_of(path, **keys)) as aether:
        found = all_warm(aether)
        assert found["launch"] == "clone", found["not_cloneable"]
        assert any("OpenSSL" in note for note in found["notes"]), found["notes"]
        said = said_by(found)
        assert [each["pid"] for each in said] == [1] * COPIES
        assert len({each["random"] for each in said}) == COPIES
        # Of a killed one nothing stays, not even a zombie, and another takes its place.
        victim = warm(found)[0]["pid"]
        os.kill(victim, 9)
        eventually(lambda: not os.path.exists(f"/proc/{victim}"), "it is gone")
        eventually(lambda: len(warm(now := state(aether))) == COPIES
                   and victim not in [one["pid"] for one in warm(now)], "another one has come")
        assert ask(found["trigger_port"])[0] == 200
        # Process 1 of a namespace does not hear SIGTERM, for which it has no handler.
        config = json.loads(aether.config.read_text())
        config["functions"][0]["environment"] = {"A": "b"}
        (tmp_path / "next.yaml").write_text(json.dumps(config))
        before = {one["pid"] for one in state(aether)["instances"]}
        done = aether.cli("deploy", "next.yaml")
        assert done.returncode == 0, done
        eventually(lambda: before.isdisjoint(one["pid"] for one in warm(state(aether))), "the new revision serves")
        assert aether.stop() == 0
    assert left_of(tmp_path) == ""


def test_a_killed_aether_leaves_no_copy_in_a_namespace(tmp_path):
    path = handlers.build("python", tmp_path / "handler")
    aether = Aether(tmp_path, config_of(path, pid_namespace=True, min_instances=COPIES, max_instances=COPIES))
    with aether:
        pids = [one["pid"] for one in all_warm(aether)["instances"]]
        aether.kill()
        eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), "all of them are gone")


def test_copies_draw_keys_of_their_own_from_openssl(tmp_path):
    path = handlers.build("python", tmp_path / "handler")
    text = path.read_text().replace("import json\n", "import json\nimport ssl\nimport uuid\n").replace(
        '"random": random.random()', '"random": ssl.RAND_bytes(16).hex(), "uuid": str(uuid.uuid1())')
    # Drawn from before the copies are made, so that its state is there to be copied.
    path.write_text(text.replace("server = HTTPServer", "ssl.RAND_bytes(16), uuid.uuid1()\nserver = HTTPServer"))
    for hooks in ("on", "off"):
        keys = {"min_instances": 20, "max_instances": 20, "environment": {"AETHER_HOOKS": hooks}}
        with Aether(tmp_path / hooks, config_of(path, **keys)) as aether:
            said = said_by(all_warm(aether, 20))
            assert len({each["random"] for each in said}) == 20, hooks
            if hooks == "on":
                assert len({each["uuid"] for each in said}) == 20
