# SPDX-License-Identifier: Apache-2.0
"""What programs say on their notify socket, in every form and from every sender that real ones use."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from aether import PYTHON, eventually
from programs import ASYNCIO
from swaps import Rig

# notify(bytes, fds): one datagram. The programs below say what a test wants, then serve.
NOTIFY = """
import array, os, socket, sys, time
def notify(data, fds=(), path=None):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        s.connect(path or os.environ["NOTIFY_SOCKET"])
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        s.sendmsg([data], rights)
"""


def speaker(says, serves=ASYNCIO):
    return NOTIFY + says + "\n" + serves


def instances(rig):
    return {i["revision"]: i for i in rig.aether.service()["instances"]}


ODD = {
    "ready_twice": "notify(b'READY=1'); notify(b'READY=1')",
    "reloading_first_as_haproxy_and_caddy_do": "notify(b'RELOADING=1'); notify(b'READY=1\\nMAINPID=%d' % os.getpid())",
    "without_and_with_a_newline": "notify(b'STATUS=x\\n'); notify(b'READY=1\\n')",
    "after_nul_bytes": "notify(b'\\0\\0\\0'); notify(b'STATUS=a\\0READY=1\\0')",
    "after_an_empty_datagram": "notify(b''); notify(b'READY=1')",
    "after_64_KiB": "notify(b'X_NOISE=' + b'x' * 65000); notify(b'READY=1')",
    "after_more_than_can_be_taken": "notify(b'STATUS=' + b'x' * 100000); notify(b'READY=1')",
    "after_random_bytes": "[notify(os.urandom(n)) for n in (1, 2, 100, 4096, 65000)]; notify(b'READY=1')",
    "after_unknown_fields": "notify(b'X_MINE=1\\nUNHEARD=2\\n=\\n\\n'); notify(b'X_A=b\\nREADY=1')",
    "with_descriptors_that_nobody_asked_for": "notify(b'READY=1', [0, 1, 2])",
}


@pytest.mark.edge("B5")
@pytest.mark.parametrize("form", ODD)
def test_readiness_is_understood(tmp_path, form):
    with Rig(tmp_path) as rig:
        rig.script.write_text(speaker(ODD[form]))
        rig.change(service={"ready": {"when": "notify", "timeout": "30s"}})
        swap = rig.aether.reload()
        assert swap["verdict"] == "succeeded", swap
        assert rig.pid() == swap["pid"]
        rig.keeps_no_files()


@pytest.mark.edge("B6")
def test_readiness_from_the_old_revision_or_from_a_stranger_is_not_the_new_ones(tmp_path):
    with Rig(tmp_path) as rig:
        old = rig.pid()
        tells = tmp_path / "socket"
        rig.script.write_text(f"import os, time\nopen({str(tells)!r}, 'w').write(os.environ['NOTIFY_SOCKET'])\n"
                              "time.sleep(600)")
        rig.change(service={"ready": {"when": "notify", "timeout": "3s"}})
        code, answer = rig.aether.ask("POST", "/v1/services/web/reload", {})
        assert code == 202, answer
        path = eventually(lambda: tells.exists() and tells.read_text(), "the new revision tells its socket")
        # A stranger of the same user, and the old revision's own socket, which is another one.
        subprocess.run([PYTHON, "-c", NOTIFY + f"notify(b'READY=1\\nSTATUS=forged', path={path!r})\ntime.sleep(0.2)"],
                       check=True)
        sockets = list(rig.aether.runtime.glob("*/notify-*"))
        assert len(sockets) == 2
        rig.until("idle")
        swap = rig.aether.service()["last_swap"]
        assert swap["verdict"] == "rolled-back" and "READY=1" in swap["why"], swap
        assert "forged" not in rig.aether.text()
        rig.serves_on(old)


DOUBLE_FORK = """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        notify(b"READY=1\\nSTATUS=from a grandchild")
    os._exit(0)
"""


@pytest.mark.edge("B7", "B8")
def test_readiness_from_a_grandchild_that_is_gone_by_then_counts(tmp_path):
    with Rig(tmp_path) as rig:
        rig.script.write_text(speaker(DOUBLE_FORK))
        rig.change(service={"ready": {"when": "notify", "timeout": "30s"}})
        swap = rig.aether.reload()
        assert swap["verdict"] == "succeeded", swap
        assert instances(rig)[2]["status_text"] == "from a grandchild"


@pytest.mark.edge("B7")
def test_readiness_from_a_grandchild_does_not_count_if_only_the_main_process_may_speak(tmp_path):
    with Rig(tmp_path) as rig:
        rig.script.write_text(speaker(DOUBLE_FORK))
        rig.change(service={"ready": {"when": "notify", "timeout": "1s"}, "notify_access": "main"})
        rig.refuses_and_serves_on("READY=1", "1s")
        rig.script.write_text(speaker(DOUBLE_FORK + "notify(b'READY=1\\nSTATUS=from the main process')"))
        rig.change(service={"ready": {"when": "notify", "timeout": "30s"}, "notify_access": "main"})
        swap = rig.aether.reload()
        assert swap["verdict"] == "succeeded", swap
        assert rig.aether.service()["instances"][0]["status_text"] == "from the main process"


def test_a_program_without_a_voice_gets_no_socket(tmp_path):
    with Rig(tmp_path) as rig:
        rig.script.write_text("import os\nassert 'NOTIFY_SOCKET' not in os.environ\n" + ASYNCIO)
        rig.change(service={"notify_access": "none"})
        assert rig.aether.reload()["verdict"] == "succeeded"


# Sends 1000 datagrams as fast as it can, and tells how long the slowest took.
FLOOD = """
slowest = 0
ours, theirs = os.pipe()
for number in range(1000):
    began = time.monotonic()
    notify(b"STATUS=%d" % number) if number % 2 else notify(b"FDSTORE=1\\nFDNAME=p", [theirs])
    slowest = max(slowest, time.monotonic() - began)
notify(b"READY=1\\nSTATUS=slowest %.0f ms" % (slowest * 1000))
"""
BUSY_HOOK = "import sys\nfor _ in range(300): print('y' * 100000)"


@pytest.mark.edge("B8b")
def test_a_program_that_speaks_fast_never_waits_long_while_a_hook_floods_the_log(tmp_path):
    with Rig(tmp_path) as rig:
        flooding = tmp_path / "flood.py"
        flooding.write_text(speaker(FLOOD))
        other = {"name": "chatty", "command": [PYTHON, str(flooding)], "listen": "127.0.0.1:0",
                 "ready": "notify", "stop_timeout": "2s", "orchestration": {"soak_time": "0s"}}
        hook = tmp_path / "hook.py"
        hook.write_text(BUSY_HOOK)
        web = {**rig.good_config["service"],
               "orchestration": {"pre_flight": [{"name": "busy", "command": [PYTHON, str(hook)]}]}}
        config = {**rig.good_config, "services": [web, other]}
        del config["service"]
        rig.aether.stop()
        rig.aether.runtime.mkdir(exist_ok=True)
        rig.aether.write_config(config)
        rig.aether.start()
        assert rig.aether.ask("POST", "/v1/services/web/reload", {})[0] == 202
        swap = rig.aether.reload("chatty")
        assert swap["verdict"] == "succeeded", swap
        words = rig.aether.service("chatty")["instances"][0]["status_text"].split()
        # 100 ms on a quiet machine; sanitizers and busy neighbours take their part.
        limit = 100 * float(os.environ.get("AETHER_TEST_SLOWNESS", "5"))
        assert words[0] == "slowest" and float(words[1]) < limit, words
        print("B8b:", *words, file=sys.__stderr__)
        rig.good_config = config  # What the rig checks at its end.


@pytest.mark.edge("B9")
def test_a_barrier_is_released_at_once_after_what_was_said_before_it(tmp_path):
    with Rig(tmp_path) as rig:
        rig.script.write_text(speaker("""
notify(b"STATUS=before the barrier")
ours, theirs = os.pipe()
began = time.monotonic()
notify(b"BARRIER=1", [theirs])
os.close(theirs)
assert os.read(ours, 1) == b""
took = (time.monotonic() - began) * 1000
open(sys.argv[0] + ".took", "w").write("%.1f" % took)
notify(b"READY=1")
"""))
        rig.change(service={"ready": "notify"})
        assert rig.aether.reload()["verdict"] == "succeeded"
        assert instances(rig)[2]["status_text"] == "before the barrier"
        took = float(Path(str(rig.script) + ".took").read_text())
        assert took < 100 * float(os.environ.get("AETHER_TEST_SLOWNESS", "5")), took


@pytest.mark.edge("B7", "B9")
def test_systemd_notify_in_a_shell_script_returns_at_once_and_counts(tmp_path):
    with Rig(tmp_path) as rig:
        server = tmp_path / "server.py"
        server.write_text(ASYNCIO)
        rig.change(service={"command": ["sh", "-c", f"systemd-notify --ready --status=hello && exec {PYTHON} {server}"],
                            "ready": {"when": "notify", "timeout": "30s"}})
        swap = rig.aether.reload()
        assert swap["verdict"] == "succeeded", swap
        assert instances(rig)[2]["status_text"] == "hello"
        # It waits 5 s for its barrier if nobody releases it.
        assert next(phase["ms"] for phase in swap["phases"] if phase["name"] == "launching") < 4000, swap


def test_what_a_program_says_of_its_failure_is_in_the_reason(tmp_path):
    with Rig(tmp_path) as rig:
        rig.script.write_text(speaker("notify(b'ERRNO=28\\nSTATUS=disk full'); raise SystemExit(1)"))
        rig.refuses_and_serves_on("ERRNO=28", "No space left")


def test_a_program_may_end_itself_by_its_watchdog(tmp_path):
    with Rig(tmp_path, soak="30s") as rig:
        rig.script.write_text(speaker("import threading\nthreading.Timer(0.5, notify, [b'WATCHDOG=trigger']).start()"))
        rig.change(orchestration={"soak_time": "30s"})
        old = rig.pid()
        swap = rig.aether.reload()
        assert swap["verdict"] == "rolled-back" and "watchdog" in swap["why"], swap
        rig.good_config["orchestration"]["soak_time"] = "100ms"
        rig.serves_on(old)


def test_a_reload_of_its_own_shows_in_the_status(tmp_path):
    with Rig(tmp_path) as rig:
        go = tmp_path / "go"
        rig.script.write_text(speaker(f"""
import threading
def reload():
    notify(b"RELOADING=1\\nMONOTONIC_USEC=%d" % (time.monotonic_ns() // 1000))
    while not os.path.exists({str(go)!r}): time.sleep(0.01)
    notify(b"READY=1\\nSTATUS=reloaded")
notify(b"READY=1")
threading.Thread(target=reload).start()
"""))
        rig.change(service={"ready": "notify"})
        assert rig.aether.reload()["verdict"] == "succeeded"
        eventually(lambda: instances(rig)[2]["state"] == "reloading", "it says that it reloads")
        go.touch()
        eventually(lambda: instances(rig)[2]["state"] == "ready", "it says that it has reloaded")


def test_one_that_says_it_stops_has_its_stop_timeout(tmp_path):
    with Rig(tmp_path) as rig:
        rig.script.write_text(speaker("notify(b'READY=1')\nnotify(b'STOPPING=1')"))
        rig.change(service={"ready": "notify", "stop_timeout": "500ms", "restart": "never"})
        rig.aether.reload()
        eventually(lambda: rig.aether.process.poll() is not None or rig.aether.service()["state"] == "FAILED",
                   "it is ended when its time is over")


def test_the_socket_takes_no_connection_from_elsewhere(tmp_path):
    """Its file is in a private folder, and only for its service."""
    with Rig(tmp_path) as rig:
        path, = rig.aether.runtime.glob("*/notify-*")
        assert path.is_socket()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
            with pytest.raises(OSError):
                stream.connect(str(path))
