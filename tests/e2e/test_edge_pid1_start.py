# SPDX-License-Identifier: Apache-2.0
"""What a program is given, whatever Aether itself was given; and signals from the first moment on."""

import os
import pty
import re
import signal
import subprocess
import sys
import time

import pytest

from aether import PYTHON, Aether, eventually, free_port
from processes import environment, files_of, stat, status
from programs import ASYNCIO, program, service

SLEEPS = "import time; print('up', flush=True); time.sleep(3600)"


def launched(aether, code):
    """Aether started by a Python program that first does something to itself."""
    words = [sys.executable, "-c", f"import os, signal, sys\n{code}\nos.execv(sys.argv[1], sys.argv[1:])"]
    aether.command = [*words, *aether.command]
    return aether


# As tini's own test of the same: a child that is asked which signals it ignores, blocks and has waiting.
@pytest.mark.edge("F4")
def test_a_program_has_default_signals_whatever_aether_was_started_with(tmp_path):
    aether = Aether(tmp_path / "a", service(program(tmp_path, "sleeps.py", SLEEPS), listen="none"))
    launched(
        aether,
        "for n in (signal.SIGPIPE, signal.SIGCHLD, signal.SIGHUP, signal.SIGUSR1, signal.SIGTTOU, signal.SIGINT):\n"
        "    signal.signal(n, signal.SIG_IGN)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())",
    )
    with aether:
        command = ["/bin/sleep", "3600"]  # Python itself would ignore SIGPIPE
        aether.write_config(service(command, listen="none", soak="0s"))
        assert aether.reload()["verdict"] == "succeeded"
        seen = status(aether.service()["pid"])
        for key in ("SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd"):
            assert int(seen[key], 16) == 0, (key, seen[key])
        assert aether.stop() == 0


@pytest.mark.edge("F8", "F14")
@pytest.mark.parametrize("closed", [[0], [1], [2], [0, 1, 2]], ids=lambda c: "".join(map(str, c)))
def test_a_standard_descriptor_that_is_missing_becomes_dev_null_and_no_listener(tmp_path, closed):
    port = free_port()
    config = service(program(tmp_path, "web.py", ASYNCIO), listen=[f"127.0.0.1:{port}"], soak="0s")
    aether = launched(Aether(tmp_path / "a", config), f"for n in {closed}: os.close(n)")
    with aether:
        for _ in range(2):
            own = files_of(aether.pid)
            assert all(own[n] == "/dev/null" for n in closed), own
            child = files_of(aether.service()["pid"])
            assert child[0] == "/dev/null" and child[1].startswith("pipe:") and child[2].startswith("pipe:"), child
            assert child[3].startswith("socket:"), child
            assert aether.reload()["verdict"] == "succeeded"
        assert aether.stop() == 0


@pytest.mark.edge("F14", "F15")
def test_a_program_sees_its_own_descriptors_and_variables_only(start, tmp_path):
    sleeper = program(tmp_path, "sleeps.py", SLEEPS)
    listens = [["127.0.0.1:0"], ["127.0.0.1:0", "127.0.0.1:0"], "none"]
    config = {
        "services": [
            {"name": f"s{n}", "command": sleeper, "listen": listen, "ready": {"delay": "1ms"},
             "env": {"OWN": str(n), f"ONLY_{n}": "yes"}}
            for n, listen in enumerate(listens)
        ],
        "orchestration": {"soak_time": "0s"},
        "observability": {"metrics_port": "none"},
    }
    aether = start(config, env={"LISTEN_FDS": "7", "LISTEN_PID": "1", "NOTIFY_SOCKET": "/nowhere", "OUTER": "kept"})
    for turn in range(3):
        for n, listen in enumerate(listens):
            pid = aether.service(f"s{n}")["pid"]
            eventually(lambda: "up" in aether.cli("logs", f"s{n}").stdout, "it runs its program")
            count = len(listen) if listen != "none" else 0
            # Python opens more for a moment while it starts.
            eventually(lambda: sorted(files_of(pid)) == list(range(3 + count)), "it has what it was given")
            assert files_of(pid)[0] == "/dev/null"
            seen = environment(pid)
            assert seen["OWN"] == str(n) and seen["OUTER"] == "kept"
            assert [key for key in seen if key.startswith("ONLY_")] == [f"ONLY_{n}"]
            assert seen.get("LISTEN_FDS") == (str(count) if count else None)
            assert seen.get("LISTEN_PID") == (str(pid) if count else None)
            assert seen["NOTIFY_SOCKET"] != "/nowhere"
        assert aether.ask("POST", "/v1/reload?wait=true", {})[0] == 200, turn


@pytest.mark.edge("F15")
def test_a_removed_variable_is_gone_a_changed_one_is_new_and_nothing_piles_up(start, tmp_path):
    config = service(["/bin/sleep", "3600"], listen="none", soak="0s")
    sizes = set()
    for turn in range(12):
        config["service"]["env"] = {"CHANGES": f"{turn:04}", **({"COMES": "1"} if turn % 2 else {})}
        if turn == 0:
            aether = start(config)
        else:
            aether.write_config(config)
            assert aether.reload()["verdict"] == "succeeded"
        seen = environment(aether.service()["pid"])
        assert seen["CHANGES"] == f"{turn:04}"
        assert ("COMES" in seen) == bool(turn % 2)
        sizes.add((turn % 2, len(seen)))
    assert len(sizes) == 2, sizes


@pytest.mark.edge("F3")
def test_a_signal_that_comes_before_anything_else_is_not_lost(tmp_path):
    # SIGTERM waits, blocked, from before the program begins; and then at random moments of its start.
    command = program(tmp_path, "sleeps.py", SLEEPS)
    aether = Aether(tmp_path / "a", service(command, listen="none"))
    launched(
        aether, "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\nos.kill(os.getpid(), signal.SIGTERM)"
    )
    aether.start(wait=False)
    assert aether.process.wait(60) == 0, aether.text()
    aether.stop()
    for moment in range(12):
        again = Aether(tmp_path / f"b{moment}", service(command, listen="none"))
        again.command = ["unshare", "-pf", "--kill-child", "--mount-proc", *again.command]
        again.start(wait=False)
        first = eventually(lambda: pid_one_of(again), "its PID 1 is Aether")
        time.sleep(moment * 0.002)  # a moment, not an event: whichever it is must do
        os.kill(first, signal.SIGTERM)
        assert again.process.wait(60) == 0, again.text()
        again.stop()


def pid_one_of(aether):
    """The child of unshare, once it has become Aether and has done its first step."""
    try:
        with open(f"/proc/{aether.pid}/task/{aether.pid}/children") as file:
            pids = file.read().split()
        if not pids or status(pids[0])["Name"] != "aether":
            return None
        # PID 1 loses what it has not blocked (man 7 signal): that step is the first one of main().
        return int(pids[0]) if int(status(pids[0])["SigBlk"], 16) else None
    except OSError:
        return None


@pytest.mark.edge("F5")
@pytest.mark.parametrize("command, code", [
    (["/nowhere/at-all"], 127), (["no-such-command-anywhere"], 127), (["/etc/hostname"], 126), (["/tmp"], 126),
])
def test_a_command_that_cannot_run_gives_the_code_that_a_shell_would(tmp_path, command, code):
    aether = Aether(tmp_path / "a", service(command, listen="none", restart="never")).start(wait=False)
    assert aether.process.wait(60) == code, aether.text()
    aether.stop()


class Terminal:
    """A shell with job control under a pseudo terminal, typed to as a person would."""

    def __init__(self, aether):
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.chdir(aether.folder)
            os.execvpe("bash", ["bash", "--norc", "-i"], {**aether.env, "PS1": "READY> ", "TERM": "dumb"})
        self.seen = ""

    def read(self):
        os.set_blocking(self.master, False)
        try:
            self.seen += os.read(self.master, 65536).decode(errors="replace")
        except (BlockingIOError, OSError):
            pass
        return self.seen

    def type(self, text):
        os.write(self.master, text.encode())

    def expect(self, pattern):
        """Waits until the pattern was shown, and forgets all up to it."""
        found = eventually(lambda: re.search(pattern, self.read()), f"{pattern!r} is shown; there is: {self.seen}")
        self.seen = self.seen[found.end():]
        return found

    def close(self):
        os.close(self.master)
        os.waitpid(self.pid, 0)


@pytest.mark.edge("F7")
def test_at_a_terminal_it_is_suspended_continued_and_interrupted_like_any_program(tmp_path):
    aether = Aether(tmp_path / "a", service(program(tmp_path, "sleeps.py", SLEEPS), listen="none"))
    terminal = Terminal(aether)
    try:
        terminal.expect("READY> ")
        terminal.type(" ".join(aether.command) + "\n")
        terminal.expect(r"Press Ctrl\+C")
        pid = aether.status()["pid"]
        child = aether.service()["pid"]
        # The foreground group of the terminal is Aether's; the program has neither group nor terminal of it.
        assert os.tcgetpgrp(terminal.master) == int(stat(pid)[2]) == pid
        assert int(stat(child)[3]) == child and int(stat(child)[4]) == 0
        terminal.type("\x1a")
        terminal.expect("Stopped")
        assert stat(child)[0] not in "Tt", "the program goes on"
        terminal.type("bg\n")
        eventually(lambda: aether.service()["state"] == "RUNNING", "it answers in the background")
        terminal.type("stty tostop; fg\n")
        eventually(lambda: os.tcgetpgrp(terminal.master) == pid, "it has the terminal again")
        terminal.type("\x03")
        terminal.expect("READY> ")
        eventually(lambda: stat(pid) is None and stat(child) is None, "both have ended")
        terminal.type("echo code=$?\n")
        terminal.expect("code=0")
    finally:
        terminal.type("\nexit\n")
        terminal.close()
        subprocess.run(["rm", "-rf", str(aether.runtime)], check=False)


@pytest.mark.edge("F12")
def test_when_memory_runs_out_a_program_is_a_better_victim_than_aether(tmp_path):
    # A score that was raised may be lowered again without any right.
    aether = Aether(tmp_path / "a", service(program(tmp_path, "sleeps.py", SLEEPS), listen="none", soak="0s"))
    launched(aether, "open('/proc/self/oom_score_adj', 'w').write('600')")
    with aether:
        def score(pid):
            with open(f"/proc/{pid}/oom_score_adj") as file:
                return int(file.read())
        for _ in range(2):
            assert score(aether.service()["pid"]) == 600
            assert score(aether.pid) < 600
            assert aether.reload()["verdict"] == "succeeded"
        assert aether.stop() == 0


@pytest.mark.edge("F5")
def test_the_story_of_a_first_start_that_fails_is_told_once(start, tmp_path):
    command = [PYTHON, "-c", "raise RuntimeError('broken at the start')"]
    aether = Aether(tmp_path / "a", service(command, listen=["127.0.0.1:0"], restart="never")).start(wait=False)
    assert aether.process.wait(60) == 1
    # Once as the program wrote it; what Aether says of it names the end only.
    assert aether.text().count("RuntimeError: broken at the start") == 1, aether.text()
    aether.stop()
