# SPDX-License-Identifier: Apache-2.0
"""criu_self_test.py CRIU: whether that CRIU can dump a process with a TCP listener, and restore it so that the
listener takes connections again. Exit code 0, or 1 with the reason. For scripts/install-criu: Aether has the same
test in src/clone/criu_check.cc."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile

LIMIT = 60


def run(criu, *words, log, folder):
    command = [criu, *words, "--manage-cgroups=ignore", "--unprivileged", "-D", folder, "-o", log, "-v2"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False,
                              env={**os.environ, "XDG_RUNTIME_DIR": folder}, close_fds=True)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    try:
        with open(log, encoding="utf-8", errors="replace") as lines:
            told = [line.strip() for line in lines if re.search("Error|error", line)]
    except OSError:
        told = []
    told = told or done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
    return f"{words[0]}: {told[0]}"


def self_test(criu, folder):
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    inherited = listener.detach()
    os.set_inheritable(inherited, True)
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    sleeper = subprocess.Popen(["sleep", "60"], start_new_session=True, pass_fds=[inherited], **quiet)
    os.close(inherited)
    number = str(sleeper.pid)
    try:
        failed = run(criu, "dump", "-t", number, "--network-lock", "skip", log=f"{folder}/dump.log", folder=folder)
        if failed:
            return failed
        sleeper.wait(LIMIT)
        failed = run(criu, "restore", "-d", log=f"{folder}/restore.log", folder=folder)
        if failed:
            return failed
        socket.create_connection(address, LIMIT).close()
        os.kill(int(number), signal.SIGKILL)  # What was restored: it has the number again
        return None
    finally:
        sleeper.kill()


def main():
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        failed = self_test(os.path.abspath(sys.argv[1]), folder)
    if failed:
        print(failed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
