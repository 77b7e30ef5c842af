# SPDX-License-Identifier: Apache-2.0
"""Containers that lack something: /proc, a writable root, rights, system calls. Aether does without, or refuses
to start and says what is missing; it never starts and fails later."""

import os
import shutil
import subprocess

import pytest

from aether import PYTHON, Aether, eventually
from processes import children_of, files_of, stat
from programs import ASYNCIO, program, service
from sandbox import why_not

# The leak checker of a sanitizer build does not work in a process that strace holds, and makes it fail.
os.environ["ASAN_OPTIONS"] = "detect_leaks=0"
pytestmark = pytest.mark.skipif(why_not() is not None, reason=f"needs namespaces of its own: {why_not()}")

SLEEPS = "import time; print('up', flush=True); time.sleep(3600)"


def in_namespaces(aether, *flags, before=""):
    """Aether as PID 1 of namespaces; `before` is a line of sh that prepares them."""
    script = f'{before}\nexec "$@"'
    aether.command = ["unshare", "--pid", "--fork", "--kill-child", *flags, "sh", "-ec", script, "sh", *aether.command]
    return aether


def running(folder, *flags, before="", config=None, **env):
    command = program(folder, "sleeps.py", SLEEPS)
    aether = Aether(folder / "a", config or service(command, listen="none"), env=env)
    return in_namespaces(aether, *flags, before=before)


@pytest.mark.edge("F10")
def test_without_proc_it_refuses_to_start_and_says_how_to_mount_it(tmp_path):
    aether = running(tmp_path, "--mount", before="umount -l /proc")
    aether.start(wait=False)
    assert aether.process.wait(60) == 1
    assert "/proc is not mounted" in aether.text() and "mount -t proc proc /proc" in aether.text()
    aether.stop()


@pytest.mark.edge("F10", "F11")
def test_with_the_proc_of_another_pid_namespace_it_refuses_to_signal_strangers(tmp_path):
    aether = running(tmp_path)
    aether.start(wait=False)
    assert aether.process.wait(60) == 1
    assert "another PID namespace" in aether.text() and "unsupported" in aether.text(), aether.text()
    aether.stop()


@pytest.mark.edge("F10")
def test_on_a_read_only_root_it_keeps_its_sockets_where_it_may_write(tmp_path):
    # As `docker run --read-only`: only /dev/shm, and what the test itself needs, can be written to.
    program(tmp_path, "web.py", ASYNCIO)
    config = service([PYTHON, str(tmp_path / "web.py")], listen=["127.0.0.1:0"], soak="0s")
    before = (
        "mount --make-rprivate /; mount -t tmpfs none /dev/shm; "
        "mount --rbind / /mnt; for m in / /run /tmp; do mount -o remount,bind,ro $m $m 2>/dev/null || "
        "{ mount --bind $m $m; mount -o remount,bind,ro $m; }; done; ! touch /run/x /tmp/x 2>/dev/null"
    )
    aether = running(tmp_path, "--mount", "--mount-proc", before=before, config=config)
    del aether.env["AETHER_RUNTIME_DIR"]
    aether.env.pop("XDG_RUNTIME_DIR", None)
    aether.start(wait=False)
    try:
        eventually(lambda: "started (PID" in aether.text() or aether.process.poll() is not None, "it serves")
        assert aether.process.poll() is None, aether.text()
        first = children_of(aether.pid)[0]
        line = " ".join([str(aether.binary), "-c", str(aether.config), "reload"])
        done = subprocess.run(
            ["nsenter", "-t", str(first), "--pid", "--mount", "sh", "-c", line],
            env=aether.env, capture_output=True, text=True, timeout=60, check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr + aether.text()
        os.kill(first, 15)
        assert aether.process.wait(60) == 0, aether.text()
    finally:
        aether.process.kill()
        aether.stop()


@pytest.mark.edge("F10")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up its rights")
def test_as_an_ordinary_user_without_capabilities_it_serves_and_swaps(open_folder):
    # As PID 1 of a container with `--user 1000 --cap-drop ALL --security-opt no-new-privileges`.
    program(open_folder, "web.py", ASYNCIO)
    config = service([PYTHON, str(open_folder / "web.py")], listen=["127.0.0.1:0"], soak="0s")
    aether = running(open_folder, "--mount-proc", config=config)
    at = aether.command.index("-ec") + 3
    drop = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "--bounding-set=-all", "--no-new-privs"]
    aether.command[at:at] = drop
    os.chown(aether.runtime, 1000, 1000)
    with aether:
        for _ in range(3):
            swap = aether.reload()
            assert swap["verdict"] == "succeeded", swap
        os.kill(children_of(aether.pid)[0], 15)
        assert aether.process.wait(60) == 0


@pytest.mark.edge("F11")
def test_process_numbers_are_those_of_its_own_namespace(tmp_path):
    # A program that names another main process by the number it has for itself.
    text = """
import os, socket, time
def tell(words):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.sendto(words.encode(), os.environ["NOTIFY_SOCKET"])
child = os.fork()
if child:
    tell(f"MAINPID={child}\\nREADY=1")
    time.sleep(0.2)
    raise SystemExit(0)
time.sleep(3600)
"""
    config = service(program(tmp_path, "forks.py", text), listen="none", ready="notify", restart="never")
    aether = running(tmp_path, "--mount-proc", config=config)
    with aether:
        before = aether.service()["pid"]
        pid = eventually(lambda: (p := aether.service()["pid"]) != 2 and p, "the named one is the main process")
        assert 1 < pid < 50, f"{pid}, {before}: no number of a machine that has run for hours"
        assert aether.service()["state"] == "RUNNING"
        os.kill(children_of(aether.pid)[0], 15)
        assert aether.process.wait(60) == 0


def traced(aether, *injections):
    """Aether with system calls that do not work, for itself and for the children that it makes."""
    words = [shutil.which("strace"), "-D", "-f", "-qq", "-o", "/dev/null", "-e", "signal=none"]
    calls = ",".join(one.split(":")[0] for one in injections)
    words += ["-e", f"trace={calls}"]
    for one in injections:
        words += ["-e", f"inject={one}"]
    aether.command = [*words, *aether.command]
    return aether


@pytest.mark.edge("F10")
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("missing", [
    "clone3:error=ENOSYS", "clone3:error=EPERM", "clone3:error=EINVAL", "clone3:error=E2BIG",
    "close_range:error=ENOSYS", "close_range:error=EPERM",
    "prctl:error=EINVAL", "process_vm_readv:error=ENOSYS", "statx:error=ENOSYS",
], ids=lambda m: m.replace(":error=", "-"))
def test_a_system_call_that_a_sandbox_lacks_is_done_without(tmp_path, missing):
    config = service(["/bin/sleep", "3600"], listen=["127.0.0.1:0"], ready={"delay": "1ms"}, soak="0s")
    aether = traced(Aether(tmp_path / "a", config), missing)
    with aether:
        assert aether.reload()["verdict"] == "succeeded"
        pid = aether.service()["pid"]
        # Traced, its own start takes a while: meanwhile it has files open that it loads.
        eventually(lambda: sorted(files_of(pid)) == [0, 1, 2, 3], "it has these descriptors and no others")
        assert aether.stop() == 0
        assert stat(pid) is None


@pytest.mark.edge("F10")
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("missing", ["pidfd_open", "pidfd_send_signal"])
def test_a_kernel_without_pidfds_is_refused_at_the_start_by_name(tmp_path, missing):
    aether = traced(Aether(tmp_path / "a", service(["/bin/sleep", "3600"], listen="none")), f"{missing}:error=ENOSYS")
    aether.start(wait=False)
    assert aether.process.wait(60) == 1
    assert missing in aether.text() and "unsupported" in aether.text(), aether.text()
    aether.command[aether.command.index("up"):] = ["doctor"]
    told = subprocess.run(aether.command, env=aether.env, capture_output=True, text=True, timeout=60, check=False)
    assert told.returncode == 1 and any(
        line.startswith("missing") and "pidfd" in line for line in told.stdout.splitlines()
    ), told.stdout
    aether.stop()


@pytest.mark.edge("B17")
def test_a_jump_of_the_clock_neither_shortens_nor_lengthens_a_time(tmp_path):
    """The machine's clock is everybody's, so it is not set; instead Aether is not seen to ask for it where it
    waits: no timer and no wait is on CLOCK_REALTIME, from the start to the end of a swap."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    log = tmp_path / "trace.txt"
    config = service(["/bin/sleep", "3600"], listen=["127.0.0.1:0"], ready={"delay": "20ms"}, soak="100ms")
    aether = Aether(tmp_path / "a", config)
    calls = "timerfd_create,timerfd_settime,clock_nanosleep,futex,epoll_pwait2,timer_create,setitimer,alarm"
    aether.command = ["strace", "-D", "-qq", "-o", str(log), "-e", f"trace={calls}", *aether.command]
    with aether:
        assert aether.reload()["verdict"] == "succeeded"
        assert aether.stop() == 0
    # A wait without a limit (a futex's NULL) names a clock and does not look at it.
    limited = [line for line in log.read_text().splitlines() if "NULL, FUTEX_BITSET_MATCH_ANY" not in line]
    text = "\n".join(limited)
    assert "timerfd_create(CLOCK_MONOTONIC" in text
    assert "REALTIME" not in text, text[-3000:]
