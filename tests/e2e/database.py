# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL of a test's own: in a temporary folder, on a Unix socket there, as an ordinary user."""

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest
from aether import PATIENCE, eventually


class Database:
    def __init__(self, *settings, listen="", folder="/tmp"):
        """`listen`: an address and port to be reached at besides, as "127.0.0.1:5433"."""
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
        if not found:
            pytest.skip("PostgreSQL's server is not installed (scripts/install-deps --test)")
        self.programs, self.user = found[-1].parent, "nobody" if os.geteuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix="ae-pg.", dir=folder))
        self.folder.chmod(0o755)
        if self.user:
            shutil.chown(self.folder, self.user)
        subprocess.run(
            [self.programs / "initdb", "-D", self.folder / "data", "-A", "trust", "-U", "tester", "-E", "UTF8"]
            + ["--locale=C", "--no-sync"],
            check=True,
            user=self.user,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
        )
        address, _, port = listen.rpartition(":")
        self.command = [self.programs / "postgres", "-D", self.folder / "data", "-k", self.folder]
        self.command += ["-c", f"listen_addresses={address}", "-c", "max_connections=60"]
        self.command += ["-p", port] if port else []
        for setting in settings:
            self.command += ["-c", setting]
        self.port = port or "5432"
        if address:
            with open(self.folder / "data" / "pg_hba.conf", "a", encoding="ascii") as file:
                file.write("host all all samenet trust\n")
        self.url = f"postgres:///postgres?host={self.folder}&user=tester&port={self.port}"
        self.process = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.folder)

    def start(self):
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(self.command, user=self.user, cwd=self.folder, stdout=log, stderr=log)
        eventually(self.answers, f"PostgreSQL answers; see {self.folder}/log")
        return self

    def answers(self):
        return self.ask("select 1", check=False).returncode == 0

    def stop(self):
        """As `pg_ctl stop -m immediate`: everything is dropped, and found again in the log."""
        if self.process:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(PATIENCE)
            self.process = None

    def restart(self):
        self.stop()
        self.start()

    def ask(self, sql, check=True):
        command = [self.programs / "psql", "-h", self.folder, "-p", self.port, "-U", "tester", "-XAtc", sql, "postgres"]
        return subprocess.run(command, capture_output=True, text=True, check=check)

    def rows(self, sql):
        return [line.split("|") for line in self.ask(sql).stdout.splitlines()]
