# SPDX-License-Identifier: Apache-2.0
"""The judge (bench/durable/judge.py) as a process of the benchmark's."""

import json
import socket
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).parent / "durable" / "judge.py"


class Judge:
    def __enter__(self):
        self.process = subprocess.Popen([sys.executable, PROGRAM], stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())
        self.socket = socket.create_connection(("127.0.0.1", self.port))
        self.lines = self.socket.makefile("rw")
        return self

    def __exit__(self, *_):
        self.socket.close()
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def ask(self, words):
        self.lines.write(words + "\n")
        self.lines.flush()
        return self.lines.readline()

    def forget(self):
        self.ask("!")

    def effects(self):
        """How many different ones there were."""
        return int(self.ask("n"))

    def told(self):
        return json.loads(self.ask("?"))

    def seen(self, key):
        return self.ask(f"= {key}").strip() == "yes"
