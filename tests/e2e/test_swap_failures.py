# SPDX-License-Identifier: Apache-2.0
"""A new revision that is no good, in every way: the old one serves on, and the reason is told."""

import os
import stat

import pytest

from aether import PYTHON, eventually
from programs import ASYNCIO
from swaps import Rig, processes_of

ENDS_EARLY = {
    "with_0": ("raise SystemExit(0)", ["exited with code 0"]),
    "with_1_and_a_word": ("import sys; sys.exit('no database today')", ["exited with code 1", "no database today"]),
    "by_a_signal": ("import os; os.kill(os.getpid(), 9)", ["SIGKILL"]),
    "by_a_syntax_error": ("def (:", ["SyntaxError"]),
    "by_a_missing_module": ("import no_such_module", ["ModuleNotFoundError"]),
}


@pytest.mark.edge("B1")
@pytest.mark.parametrize("how", ENDS_EARLY)
def test_a_revision_that_ends_before_it_is_ready_changes_nothing(tmp_path, how):
    text, words = ENDS_EARLY[how]
    with Rig(tmp_path) as rig:
        rig.script.write_text(text)
        rig.refuses_and_serves_on(*words)


@pytest.mark.edge("G4")
def test_a_program_that_goes_to_the_background_is_told_to_stay(tmp_path):
    with Rig(tmp_path) as rig:
        rig.script.write_text("import os, time\nif os.fork(): os._exit(0)\ntime.sleep(600)")
        rig.refuses_and_serves_on("foreground")


def test_a_program_that_binds_its_own_port_is_told_how_to_get_it(tmp_path):
    with Rig(tmp_path) as rig:
        rig.script.write_text(f"import socket\nsocket.create_server(('127.0.0.1', {rig.port}))")
        rig.refuses_and_serves_on("Address already in use", "LISTEN_FDS", "listen: none")


NEVER_READY = f"""
import subprocess, time
subprocess.Popen(["{PYTHON}", "-c", "import time; time.sleep(600)", __file__], start_new_session=True)
time.sleep(600)
"""


@pytest.mark.edge("B2")
def test_a_revision_that_never_gets_ready_is_killed_with_its_whole_tree(tmp_path):
    with Rig(tmp_path) as rig:
        old = rig.pid()
        rig.script.write_text(NEVER_READY)
        rig.change(service={"ready": {"timeout": "1s"}})
        swap = rig.aether.reload()
        assert swap["verdict"] == "rolled-back"
        assert "did not become ready within 1s" in swap["why"], swap["why"]
        eventually(lambda: processes_of(tmp_path) == [old], "its child in a session of its own is gone")
        rig.serves_on(old)


@pytest.mark.edge("B3")
def test_a_revision_that_crashes_while_it_soaks_is_taken_back(tmp_path):
    with Rig(tmp_path, soak="20s") as rig:
        old = rig.pid()
        rig.script.write_text("import threading, os\nthreading.Timer(1, os._exit, [7]).start()\n" + ASYNCIO)
        swap = rig.aether.reload()
        assert swap["verdict"] == "rolled-back"
        assert "exited with code 7" in swap["why"], swap["why"]
        rig.good_config["orchestration"]["soak_time"] = "100ms"
        rig.serves_on(old)


PROBES = {
    "http_get": ({"http_get": "/health"}, "health probe"),
    "tcp": ({"tcp": "127.0.0.1:1"}, "health probe"),
    "command": ({"command": ["false"]}, "health probe"),
    "a_command_that_hangs": ({"command": ["sleep", "600"]}, "health probe"),
}
SICK = ASYNCIO.replace("200 OK", "503 Sick")


@pytest.mark.edge("B4")
@pytest.mark.parametrize("probe", PROBES)
def test_a_revision_that_fails_its_health_probe_is_taken_back(tmp_path, probe):
    check, word = PROBES[probe]
    with Rig(tmp_path, soak="20s") as rig:
        old = rig.pid()
        rig.script.write_text(SICK)
        check = {**check, "interval": "20ms", "timeout": "500ms", "threshold": 2}
        rig.change(orchestration={"canary": {"enabled": True, "soak_time": "20s", "health_check": check},
                                  "soak_time": "20s"})
        swap = rig.aether.reload()
        assert swap["verdict"] == "rolled-back"
        assert word in swap["why"] and "2 times" in swap["why"], swap["why"]
        rig.good_config["orchestration"]["soak_time"] = "100ms"
        rig.serves_on(old)


def test_a_healthy_revision_passes_its_probe(tmp_path):
    check = {"http_get": "/health", "interval": "20ms", "threshold": 1}
    with Rig(tmp_path, orchestration={"canary": {"enabled": True, "soak_time": "500ms", "health_check": check}}) as rig:
        swap = rig.aether.reload()
        assert swap["verdict"] == "succeeded", swap


@pytest.mark.edge("B12")
def test_commands_that_cannot_run_are_refused_before_anything_is_touched(tmp_path):
    with Rig(tmp_path) as rig:
        plain = tmp_path / "plain.txt"
        plain.write_text("no program")
        no_interpreter = tmp_path / "script"
        no_interpreter.write_text("#!/nowhere/interpreter\n")
        no_interpreter.chmod(no_interpreter.stat().st_mode | stat.S_IXUSR)
        no_format = tmp_path / "garbage"
        no_format.write_bytes(b"\x00\x01\x02garbage")
        no_format.chmod(0o755)
        cases = {
            "no-such-program-at-all": "no-such-program-at-all",
            str(tmp_path / "nothing-here"): "nothing-here",
            str(plain): "plain.txt",
            str(no_interpreter): "/nowhere/interpreter",
            str(no_format): "garbage",
            str(tmp_path): str(tmp_path),
        }
        old = rig.pid()
        for command, word in cases.items():
            rig.change(service={"command": [command]})
            swap = rig.aether.reload()
            assert swap["verdict"] == "rolled-back", (command, swap)
            assert word in swap["why"], (command, swap["why"])
            assert rig.pid() == old
            rig.keeps_no_files()
        rig.serves_on(old)


@pytest.mark.edge("B12")
def test_a_working_folder_or_a_user_that_is_not_there_is_named(tmp_path):
    with Rig(tmp_path) as rig:
        old = rig.pid()
        rig.change(service={"workdir": str(tmp_path / "gone")})
        swap = rig.aether.reload()
        assert swap["verdict"] == "rolled-back" and "gone" in swap["why"], swap
        rig.keeps_no_files()
        rig.change(service={"user": "nobody-of-that-name"})
        swap = rig.aether.reload()
        assert swap["verdict"] == "rolled-back" and "nobody-of-that-name" in swap["why"], swap
        rig.serves_on(old)


@pytest.mark.edge("B1")
def test_the_command_line_tells_a_failed_reload_with_exit_1(tmp_path):
    with Rig(tmp_path) as rig:
        rig.script.write_text("import sys; sys.exit('no database today')")
        done = rig.aether.cli("reload")
        assert done.returncode == 1
        assert "rolled back, revision 1 serves on" in done.stdout
        assert "no database today" in done.stdout
        rig.mend()
        assert rig.aether.cli("reload").returncode == 0


def test_files_do_not_pile_up_over_many_failed_swaps(tmp_path):
    with Rig(tmp_path) as rig:
        old = rig.pid()
        rig.script.write_text("raise SystemExit(3)")
        for _ in range(15):
            assert rig.aether.reload()["verdict"] == "rolled-back"
            rig.keeps_no_files()
        assert os.path.exists(f"/proc/{old}")
        rig.serves_on(old)
