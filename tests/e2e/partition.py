# SPDX-License-Identifier: Apache-2.0
"""A machine of its own, as far as the network goes: a namespace, and a cable to it that can be pulled."""

import os
import shutil
import subprocess

import pytest


def run(*words):
    return subprocess.run(words, capture_output=True, text=True, check=False)


class Cable:
    """`wrap` begins the command of a process over there; `here` is this side's address, which both sides know."""

    def __init__(self):
        if not self.can_be():
            pytest.skip("cutting a server off takes a network namespace and a cable to it: root, and iproute2")
        number = os.getpid() % 16000
        self.space, self.end = f"aether-{os.getpid()}", f"aev{number}"
        prefix = f"10.{64 + number // 250}.{number % 250}"
        self.here, self.there = f"{prefix}.1", f"{prefix}.2"
        self.wrap = ("ip", "netns", "exec", self.space)

    @staticmethod
    def can_be():
        return os.geteuid() == 0 and shutil.which("ip") is not None

    def __enter__(self):
        steps = (
            ["netns", "add", self.space],
            ["link", "add", self.end, "type", "veth", "peer", "name", "cable", "netns", self.space],
            ["addr", "add", f"{self.here}/30", "dev", self.end],
            ["link", "set", self.end, "up"],
            ["-n", self.space, "addr", "add", f"{self.there}/30", "dev", "cable"],
            ["-n", self.space, "link", "set", "cable", "up"],
            ["-n", self.space, "link", "set", "lo", "up"],
        )
        for step in steps:
            done = run("ip", *step)
            if done.returncode != 0:
                self.__exit__()
                pytest.skip(f"cutting a server off takes a network namespace, which is not allowed here: {done.stderr}")
        return self

    def __exit__(self, *_):
        run("ip", "link", "del", self.end)
        run("ip", "netns", "del", self.space)

    def pull(self):
        """What is sent from now on is lost, in both directions; nobody is told."""
        assert run("ip", "-n", self.space, "link", "set", "cable", "down").returncode == 0

    def plug(self):
        assert run("ip", "-n", self.space, "link", "set", "cable", "up").returncode == 0
