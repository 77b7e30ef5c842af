# SPDX-License-Identifier: Apache-2.0
"""What signals to Aether do, as docs/programs.md has it."""

import signal

import pytest

from aether import eventually, free_port
from programs import ASYNCIO, program, service

PRINTS = """
import os, signal, time
def told(number, _): print("got", signal.Signals(number).name, flush=True)
for each in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH): signal.signal(each, told)
print("up", flush=True)
while True: time.sleep(1)
"""


def logs(aether):
    return aether.cli("logs").stdout


def test_usr1_and_usr2_are_passed_on_and_a_resized_terminal_is_not(start, tmp_path):
    aether = start(service(program(tmp_path, "prints.py", PRINTS), listen="none"))
    eventually(lambda: "up" in logs(aether), "its handlers are set")
    for each in (signal.SIGWINCH, signal.SIGUSR2, signal.SIGUSR1):
        aether.process.send_signal(each)
        if each != signal.SIGWINCH:
            eventually(lambda: f"got {each.name}" in logs(aether), each.name)  # noqa: B023
    assert "SIGWINCH" not in logs(aether)  # it was sent first


@pytest.mark.edge("G1")
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_that_would_end_the_program_is_not_passed_on_and_the_log_says_so(start, tmp_path, number):
    port = free_port()
    aether = start(service(program(tmp_path, "server.py", ASYNCIO), listen=f"127.0.0.1:{port}"))
    before = aether.service()["pid"]
    aether.process.send_signal(number)
    eventually(lambda: f"{number.name} was not passed on" in aether.text(), "the refusal is told")
    assert "no handler" in aether.text()
    assert aether.service()["pid"] == before and aether.service()["state"] == "RUNNING"
    # The next one is heard, and means what it always means.
    aether.hangup()
    eventually(lambda: aether.service()["pid"] != before, "SIGHUP reloads")
