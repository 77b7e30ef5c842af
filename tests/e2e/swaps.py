# SPDX-License-Identifier: Apache-2.0
"""What tests of failed swaps share: a service that can be made bad, and what must hold afterwards."""

import http.client
import os
import re
from collections import Counter
from pathlib import Path

from aether import Aether, eventually, free_port
from programs import ASYNCIO, program

# Revisions that leave at the same time can leave spare lanes behind, until the next one leaves by itself.
SPARE_LANES = 2


def processes_of(folder):
    """Pids whose command line names something in the folder; Aether itself is not one of them."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in words and b"aeterna.yaml" not in words:
            found.append(int(entry.name))
    return found


class Rig:
    """One service, `web`, whose program and configuration are changed between reloads."""

    def __init__(self, folder, soak="0s", **config):
        self.folder = folder
        self.port = free_port()
        self.script = folder / "agent.py"
        self.good_config = {
            "service": {
                "name": "web",
                "command": program(folder, "agent.py", ASYNCIO),
                "listen": f"127.0.0.1:{self.port}",
                "stop_timeout": "2s",
            },
            "orchestration": {"soak_time": soak},
            "observability": {"metrics_port": "none"},
            **config,
        }
        self.aether = Aether(folder / "aether", self.good_config)

    def __enter__(self):
        self.aether.start()
        self.pid()
        self.fds = self.settled_files()
        return self

    def __exit__(self, kind, *_):
        self.aether.__exit__(kind)
        assert kind is not None or not processes_of(self.folder), "Aether left processes behind"

    def change(self, **parts):
        """A configuration that differs from the good one: {section: {key: value}}; None removes."""
        config = {name: dict(section) for name, section in self.good_config.items()}
        for name, section in parts.items():
            config.setdefault(name, {}).update(section)
        self.aether.write_config(config)

    def mend(self):
        self.script.write_text(ASYNCIO)
        self.aether.write_config(self.good_config)

    def pid(self):
        """The pid that answers a new connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", "/")
            return int(connection.getresponse().read())
        finally:
            connection.close()

    def open_files(self):
        """What Aether has open, without what it opens while it is asked."""
        names = []
        for entry in Path(f"/proc/{self.aether.pid}/fd").iterdir():
            try:
                names.append(os.readlink(entry))
            except OSError:
                continue
        return sorted(re.sub(r"\d+", "N", name) for name in names)

    def settled_files(self):
        """open_files() once it has not changed for a while: the last question's socket is closed."""
        seen = []
        def same():
            seen.append(self.open_files())
            return len(seen) > 20 and seen[-20:] == seen[-1:] * 20 and seen[-1]
        return eventually(same, "the number of open files settles")

    def phase(self):
        return self.aether.service()["phase"]

    def until(self, phase):
        return eventually(lambda: self.phase() == phase, f"phase {phase}; the log: {self.aether.text()}")

    def refuses_and_serves_on(self, *words):
        """A reload now fails with a reason that holds `words`; then everything is as before, and a
        good reload succeeds."""
        old = self.pid()
        swap = self.aether.reload()
        assert isinstance(swap, dict), swap
        assert swap["verdict"] == "rolled-back", swap
        for word in words:
            assert word in swap["why"], swap["why"]
        self.serves_on(old)
        return swap

    def serves_on(self, old):
        self.until("idle")
        assert self.pid() == old
        service = self.aether.service()
        assert (service["state"], service["pid"], len(service["instances"])) == ("RUNNING", old, 1)
        self.mend()
        swap = self.aether.reload()
        assert swap["verdict"] == "succeeded", swap
        self.until("idle")
        assert self.pid() == swap["pid"] != old
        eventually(lambda: processes_of(self.folder) == [swap["pid"]], "only the new process is left")
        self.keeps_no_files()

    def keeps_no_files(self):
        """Waits until no more files are open than at the start. Revisions that ended at the same time, or calls
        that failed, may leave spare lanes, which the next swaps take away."""
        for _ in range(3):
            try:
                return eventually(self.as_few_files_as_before, "few files are open", patience=5)
            except AssertionError:
                assert self.aether.reload()["verdict"] == "succeeded"
                self.until("idle")
        try:
            return eventually(self.as_few_files_as_before, "no more files are open than before")
        except AssertionError as slow:
            raise AssertionError(f"{slow}; now {self.open_files()}, before {self.fds}") from None

    def calm(self):
        """One swap by itself, which takes away what revisions that ended at the same time left behind."""
        def alone():
            self.until("idle")
            eventually(lambda: len(processes_of(self.folder)) == 1, "only the last revision lives")

        alone()
        assert self.aether.reload()["verdict"] == "succeeded"
        alone()

    def as_few_files_as_before(self):
        return not Counter(self.open_files()) - Counter(self.fds)
