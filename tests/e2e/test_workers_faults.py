# SPDX-License-Identifier: Apache-2.0
"""Each fault point of workers, met by a worker that is halted past its lease and another one that goes on."""

import http.client
import re
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor

from aether import BINARY, eventually
from judge import Judge
from test_workers import PAYING
from workers import House


def points():
    done = subprocess.run([str(BINARY), "status"], env={"AETHER_FAULT": "x:1:kill", "PATH": "/usr/bin:/bin"},
                          capture_output=True, text=True, check=False)  # fmt: skip
    return re.findall(r"work\.[\w-]+", re.search(r"there are: (.*)", done.stderr).group(1))


def alive(house):
    """Starts it again if the fault ended it; whether it did."""
    if house.process.poll() is None:
        return False
    assert house.process.returncode == -signal.SIGKILL, house.text()
    house.again()
    return True


def job_of(house, run):
    """As house.job(), of an Aether that may die at any moment."""
    try:
        if not alive(house):
            return house.job(run)
    except (OSError, http.client.HTTPException):
        pass
    return {"status": "unknown", "waits": []}


def one_fault(tmp_path, fault):
    with Judge() as judge:
        house = House(tmp_path / fault.replace(":", "-"), judge, lease="700ms")
        try:
            house.again(fault=fault)
            slow = house.worker(PAYING, WAY="hold")
            run = house.begin(given="a")
            eventually(lambda: alive(house) or judge.count("/hold/pay.a"), "the first worker begins")
            eventually(lambda: judge.count("/hold/pay.a"), "the first worker pays")
            slow.process.send_signal(signal.SIGSTOP)
            house.worker(PAYING)

            eventually(lambda: any(wait["effect"] for wait in job_of(house, run)["waits"]), "a person is asked")
            judge.release("pay.a")
            slow.process.send_signal(signal.SIGCONT)
            eventually(lambda: job_of(house, run)["status"] == "completed", "the job ends")
            assert (judge.count("/hold/pay.a"), judge.count("/count/pay.a")) == (1, 0)
            assert judge.count("/count/http.a") == 1
            house.verified()
        finally:
            house.halt()
    return "AETHER_FAULT" not in house.env


def test_no_fault_around_a_worker_makes_a_call_twice_or_loses_a_run(tmp_path):
    faults = [f"{point}:{number}:{action}" for point in points() for number, action in ((1, "kill"), (2, "eio"))]
    assert len(faults) >= 12
    with ThreadPoolExecutor(4) as pool:
        struck = list(pool.map(lambda fault: one_fault(tmp_path, fault), faults))
    kills = [fault for fault, hit in zip(faults, struck) if fault.endswith("kill") and not hit]
    assert not kills, f"never met: {kills}"
