# SPDX-License-Identifier: Apache-2.0
"""When a new revision counts as ready, what keeps it from starting, and what it starts as."""

import os
from pathlib import Path

import pytest

from aether import PYTHON, SANITIZED, eventually
from programs import ASYNCIO
from swaps import Rig, processes_of

NOTIFY = """
import os, socket, sys, time
def notify(data):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.connect(os.environ["NOTIFY_SOCKET"])
        s.send(data)
"""


def ready_as(rig, ready, **service):
    rig.change(service={"ready": ready, **service})
    return rig.aether.reload()


# ---- the kinds of readiness

def test_a_newline_on_its_descriptor_shows_readiness_as_s6_has_it(tmp_path):
    with Rig(tmp_path) as rig:
        rig.script.write_text("import os\nos.write(5, b'\\n')\nos.close(5)\n" + ASYNCIO)
        swap = ready_as(rig, {"fd": 5})
        assert swap["verdict"] == "succeeded", swap
        assert "descriptor" in rig.aether.text()
        rig.script.write_text("import os\nos.write(5, b'almost')\nos.close(5)\n" + ASYNCIO)
        swap = ready_as(rig, {"fd": 5, "timeout": "500ms"})
        assert swap["verdict"] == "rolled-back" and "no newline to its descriptor 5" in swap["why"], swap


def test_a_line_of_its_output_shows_readiness(tmp_path):
    with Rig(tmp_path) as rig:
        rig.script.write_text("print('not yet ready', flush=True)\nprint('x' * 100000)\n"
                              "print('ready to serve 3 models', flush=True)\n" + ASYNCIO)
        swap = ready_as(rig, {"log": "^ready to serve [0-9]+"})
        assert swap["verdict"] == "succeeded", swap
        swap = ready_as(rig, {"log": "^ready to fly", "timeout": "500ms"})
        assert swap["verdict"] == "rolled-back" and 'no line of its output had "^ready to fly"' in swap["why"], swap


def test_a_unix_socket_that_accepts_shows_readiness(tmp_path):
    with Rig(tmp_path) as rig:
        path = tmp_path / "admin.sock"
        rig.script.write_text(f"import socket\nadmin = socket.socket(socket.AF_UNIX)\nadmin.bind({str(path)!r})\n"
                              "admin.listen()\n" + ASYNCIO)
        swap = ready_as(rig, {"unix": str(path)})
        assert swap["verdict"] == "succeeded", swap


# ---- too late, too early, not at all

@pytest.mark.edge("B2")
def test_a_start_that_asks_for_more_time_gets_it_and_one_that_stops_asking_is_ended(tmp_path):
    patient = NOTIFY + """
for _ in range(10):
    notify(b"EXTEND_TIMEOUT_USEC=1000000")
    time.sleep(0.2)
notify(b"READY=1")
"""
    with Rig(tmp_path) as rig:
        rig.script.write_text(patient + ASYNCIO)
        swap = ready_as(rig, {"when": "notify", "timeout": "1s"})
        assert swap["verdict"] == "succeeded", swap
        rig.until("idle")
        rig.script.write_text(NOTIFY + "notify(b'EXTEND_TIMEOUT_USEC=1500000')\ntime.sleep(600)")
        swap = ready_as(rig, {"when": "notify", "timeout": "1s"})
        assert swap["verdict"] == "rolled-back" and "did not become ready within" in swap["why"], swap
        rig.serves_on(rig.pid())


@pytest.mark.edge("B2", "B11")
def test_a_hangup_before_the_first_readiness_is_not_lost_and_not_fatal(tmp_path):
    with Rig(tmp_path) as rig:
        go = tmp_path / "go"
        rig.script.write_text(f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)\n" + ASYNCIO)
        rig.aether.stop()
        rig.aether.runtime.mkdir(exist_ok=True)
        rig.aether.start(wait=False)
        eventually(rig.aether.control_ready, "it answers")
        rig.aether.hangup()
        rig.aether.hangup()
        go.touch()
        eventually(lambda: rig.aether.service()["state"] == "RUNNING" and rig.phase() == "idle", "it runs")
        rig.mend()
        assert rig.aether.reload()["verdict"] == "succeeded"


@pytest.mark.edge("B3")
def test_the_metrics_say_that_it_ended_in_its_soak(tmp_path):
    with Rig(tmp_path, soak="30s") as rig:
        rig.script.write_text("import threading, os\nthreading.Timer(0.3, os._exit, [7]).start()\n" + ASYNCIO)
        old = rig.pid()
        swap = rig.aether.reload()
        assert swap["verdict"] == "rolled-back" and "exited with code 7" in swap["why"]
        assert [phase["name"] for phase in swap["phases"]][-1] == "soaking", swap
        rig.good_config["orchestration"]["soak_time"] = "100ms"
        rig.serves_on(old)


# Answers by its folder's state: sick until a file is there.
SICK_FIRST = """
import asyncio, os, signal, socket
async def answer(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    well = os.path.exists(WELL)
    open(ASKED, "a").close()
    body = str(os.getpid()).encode()
    writer.write(b"HTTP/1.1 %s\\r\\nContent-Length: %d\\r\\nConnection: close\\r\\n\\r\\n%s"
                 % (b"200 OK" if well else b"503 Warming", len(body), body))
    await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(answer, sock=socket.socket(fileno=3), backlog=4096)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    server.close()
asyncio.run(main())
"""


@pytest.mark.edge("B4")
@pytest.mark.parametrize("ready", [{"http": "/health"}], ids=["by_http"])
def test_the_new_process_is_the_one_that_is_asked_whether_it_is_ready(tmp_path, ready):
    """While the old one answers the same port with 200."""
    with Rig(tmp_path) as rig:
        old = rig.pid()
        well, asked = tmp_path / "well", tmp_path / "asked"
        rig.script.write_text(f"WELL, ASKED = {str(well)!r}, {str(asked)!r}\n" + SICK_FIRST)
        rig.change(service={"ready": {**ready, "timeout": "60s"}})
        code, answer = rig.aether.ask("POST", "/v1/services/web/reload", {})
        assert code == 202, answer
        eventually(asked.exists, "the new process is asked")
        assert rig.phase() == "launching" and rig.pid() == old
        well.touch()
        rig.until("idle")
        swap = rig.aether.service()["last_swap"]
        assert swap["verdict"] == "succeeded" and rig.pid() == swap["pid"] != old


# ---- commands that cannot run

def script(folder, name, text, mode=0o755):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


@pytest.mark.edge("B12")
def test_what_cannot_be_executed_is_told_in_words_and_changes_nothing(tmp_path):
    rig = Rig(tmp_path)
    rig.aether.env["BIG"] = "x" * 60_000
    long_words = ["${BIG}"] * 40  # The kernel takes 2 MiB of arguments and environment together.
    with rig:
        old = rig.pid()
        cases = {
            "ENOENT": ([str(tmp_path / "nothing")], ["nothing"]),
            "ENOENT in a shebang": ([str(script(tmp_path, "a", "#!/nowhere/sh\n"))], ["/nowhere/sh"]),
            "ENOEXEC": ([str(script(tmp_path, "b", b"\x00\x01garbage"))], ["b"]),
            "EACCES by mode": ([str(script(tmp_path, "c", "#!/bin/sh\n", 0o644))], ["c"]),
            "EACCES of a folder": ([str(tmp_path)], [str(tmp_path)]),
            "E2BIG": ([PYTHON, str(rig.script), *long_words], ["longer than the kernel takes"]),
        }
        for case, (command, words) in cases.items():
            rig.change(service={"command": command})
            swap = rig.aether.reload()
            assert swap["verdict"] == "rolled-back", (case, swap)
            assert any(word in swap["why"] for word in words), (case, swap["why"][-2000:])
            assert len(swap["why"]) < 20_000, case
            assert rig.pid() == old
        for key, value in (("workdir", str(tmp_path / "gone")), ("user", "nobody-of-that-name")):
            rig.change(service={key: value})
            swap = rig.aether.reload()
            assert swap["verdict"] == "rolled-back" and Path(value).name in swap["why"], swap
        rig.aether.write_config("service: {command: 5, comand: [x]}\n")
        code, problem = rig.aether.reload()
        assert code == 422 and "comand" in str(problem), problem
        rig.serves_on(old)


@pytest.mark.edge("B13")
def test_a_preflight_hook_holds_no_listener_and_its_flood_is_bounded(tmp_path):
    hook = script(tmp_path, "hook.py", "import os, sys\n"
                  "held = [os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd') if n not in '012'"
                  " and os.path.exists(f'/proc/self/fd/{n}')]\n"
                  "assert not [name for name in held if 'socket' in name], held\n"
                  "for _ in range(1000): sys.stdout.write('y' * 99999 + '\\n')\n"
                  "print(os.getuid(), os.getcwd(), os.environ['FLAVOUR']); sys.exit(9)")
    with Rig(tmp_path) as rig:
        before = int(Path(f"/proc/{rig.aether.pid}/statm").read_text().split()[1])
        rig.change(service={"env": {"FLAVOUR": "new"}, "workdir": "/"},
                   orchestration={"pre_flight": [{"name": "flood", "command": [PYTHON, str(hook)], "timeout": "60s"}]})
        rig.refuses_and_serves_on("flood", "code 9", f"{os.getuid()} / new")
        grown = int(Path(f"/proc/{rig.aether.pid}/statm").read_text().split()[1]) - before
        # ASan keeps what was freed for a while.
        assert grown * 4096 < 64 << 20 or SANITIZED, "100 MB of output are not kept"


# ---- files that change meanwhile

@pytest.mark.edge("B14")
@pytest.mark.parametrize("what", ["replaced_by_a_good_one", "removed", "made_plain"])
def test_a_program_that_changes_between_the_check_and_its_start(tmp_path, what):
    with Rig(tmp_path) as rig:
        old = rig.pid()
        server = script(tmp_path, "server", f"#!{PYTHON}\nraise SystemExit('the old text ran')\n")
        good = script(tmp_path, "good", f"#!{PYTHON}\n{ASYNCIO}")
        change = {
            "replaced_by_a_good_one": f"os.rename({str(good)!r}, {str(server)!r})",
            "removed": f"os.unlink({str(server)!r})",
            "made_plain": f"os.chmod({str(server)!r}, 0o644)",
        }[what]
        hook = script(tmp_path, "hook.py", "import os\n" + change)
        rig.change(service={"command": [str(server)]},
                   orchestration={"pre_flight": [{"name": "change", "command": [PYTHON, str(hook)]}]})
        swap = rig.aether.reload()
        if what == "replaced_by_a_good_one":
            assert swap["verdict"] == "succeeded" and rig.pid() == swap["pid"], swap
            return
        assert swap["verdict"] == "rolled-back" and "server" in swap["why"], swap
        rig.serves_on(old)


@pytest.mark.edge("B15")
def test_a_release_link_is_followed_anew_by_each_revision(tmp_path):
    with Rig(tmp_path) as rig:
        releases = [tmp_path / name for name in ("one", "two")]
        for release in releases:
            release.mkdir()
            text = f"#!{PYTHON}\nimport os\nopen('who', 'w').write({release.name!r} + ' ' + os.getcwd())\n" + ASYNCIO
            script(release, "server", text)
        current = tmp_path / "current"
        current.symlink_to("one")
        rig.change(service={"command": [str(current / "server")], "workdir": str(current)})
        swap = rig.aether.reload()
        assert swap["verdict"] == "succeeded", swap
        assert (releases[0] / "who").read_text() == f"one {releases[0]}"
        (tmp_path / "next").symlink_to("two")
        os.rename(tmp_path / "next", current)
        # The running one's file goes meanwhile: a deleted executable is no obstacle.
        (releases[0] / "server").unlink()
        swap = rig.aether.reload()
        assert swap["verdict"] == "succeeded", swap
        assert (releases[1] / "who").read_text() == f"two {releases[1]}"
        assert rig.pid() == swap["pid"]
        rig.until("idle")
        eventually(lambda: processes_of(tmp_path) == [swap["pid"]], "the first release's process has ended")


@pytest.mark.edge("B1")
def test_the_command_says_pid_status_and_last_lines_of_what_ended_early(tmp_path):
    with Rig(tmp_path) as rig:
        old = rig.pid()
        rig.script.write_text("import sys\nfor i in range(50): print('line', i)\nsys.exit('no database today')")
        done = rig.aether.cli("reload")
        assert done.returncode == 1
        for word in ("exited with code 1", "no database today", "line 49"):
            assert word in done.stdout + done.stderr, done
        assert "line 3\n" not in done.stdout, "the last lines, not all of them"
        rig.serves_on(old)
