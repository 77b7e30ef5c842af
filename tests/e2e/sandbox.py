# SPDX-License-Identifier: Apache-2.0
"""A small machine of a test's own: processes, network and /proc that nobody else sees.

Seeds print fixed ports and `pkill -HUP aeterna`. Here both mean only what the test started.
"""

import os
import subprocess
import sys

from aether import BINARY, PATIENCE, PYTHON, SDK, eventually

# The first process of the machine: a /tmp of its own (with the folders it is told), the loopback
# interface; then it reaps, and waits to be ended.
_INIT = """
import ctypes, fcntl, os, signal, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
def mount(source, target, kind, flags):
    if libc.mount(source.encode(), target.encode(), kind, flags, None):
        raise OSError(ctypes.get_errno(), "mount " + target)
kept = {path: os.open(path, os.O_PATH) for path in sys.argv[1:] if path.startswith("/tmp/")}
mount("tmpfs", "/tmp", b"tmpfs", 0)
for path, fd in kept.items():
    os.makedirs(path, exist_ok=True)
    mount(f"/proc/self/fd/{fd}", path, None, 0x1000 | 0x4000)  # MS_BIND, MS_REC
    os.close(fd)
with socket.socket() as s:
    fcntl.ioctl(s, 0x8914, struct.pack("16sH14x", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS: UP, RUNNING
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("up", flush=True)
while True:
    signal.pause()
"""


def _flags():
    return [] if os.geteuid() == 0 else ["--user", "--map-root-user"]


def why_not():
    """Why there can be no such machine here; None if there can."""
    probe = subprocess.run(
        ["unshare", *_flags(), "--net", "--pid", "--fork", "--mount-proc", "true"], capture_output=True, text=True
    )
    return None if probe.returncode == 0 else f"namespaces are not allowed here: {probe.stderr.strip()}"


class Sandbox:
    """Use as a context manager. `type()` runs a line of bash in it as a user would type it."""

    def __init__(self, folder):
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        programs = folder / "bin"
        programs.mkdir()
        (programs / "python").symlink_to(PYTHON)  # the seeds' configurations say "python"
        (programs / "python3").symlink_to(PYTHON)
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("AETHER", "LISTEN_"))},
            "AETHER_RUNTIME_DIR": "/tmp/aether",
            "PATH": f"{programs}:{BINARY.parent}:/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONPATH": str(SDK),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.started = []

    def __enter__(self):
        folders = [str(path.resolve()) for path in (self.folder, BINARY.parent, SDK)]
        # unshare is the parent of the machine's first process, and takes it along when it is killed.
        self.holder = subprocess.Popen(
            ["unshare", *_flags(), "--net", "--pid", "--fork", "--kill-child", "--mount-proc", PYTHON, "-c", _INIT,
             *folders],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.holder.stdout.readline() == "up\n"
        children = f"/proc/{self.holder.pid}/task/{self.holder.pid}/children"
        with open(children) as file:
            self.init = file.read().split()[0]
        return self

    def __exit__(self, kind, *_):
        self.holder.kill()
        self.holder.wait()
        self.holder.stdout.close()
        for process in self.started:
            process.wait(PATIENCE)
        if kind is not None:
            print(self.output(), file=sys.stderr)

    def command(self, line):
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        enter = ["nsenter", "-t", self.init, *user, "--net", "--pid", "--mount", "--wd=" + str(self.folder)]
        return [*enter, "bash", "-c", line]

    def type(self, line, check=True):
        """Runs the line, waits for it; fails the test if it fails."""
        done = subprocess.run(self.command(line), env=self.env, capture_output=True, text=True, timeout=120)
        said = f"{line}: {done.returncode}\n{done.stdout}{done.stderr}\n{self.output()}"
        assert not check or done.returncode == 0, said
        return done

    def begin(self, line):
        """Runs the line without waiting; its output is in output()."""
        with open(self.folder / "output.txt", "ab") as out:
            process = subprocess.Popen(
                self.command(line), env=self.env, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        self.started.append(process)
        return process

    def output(self):
        path = self.folder / "output.txt"
        return path.read_text(errors="replace") if path.exists() else ""

    def get(self, url):
        """(status, body) of a GET; None if nobody answers."""
        program = (
            "import sys, urllib.request as r, urllib.error as e\n"
            "try: a = r.urlopen(sys.argv[1], timeout=20)\n"
            "except e.HTTPError as error: a = error\n"
            "print(a.status); sys.stdout.write(a.read().decode())"
        )
        (self.folder / "get.py").write_text(program)
        done = self.type(f"python get.py {url}", check=False)
        if done.returncode != 0:
            return None
        status, _, body = done.stdout.partition("\n")
        return int(status), body

    def eventually_get(self, url):
        return eventually(lambda: self.get(url), f"{url} answers; output: {self.output()}")
