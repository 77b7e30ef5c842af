# SPDX-License-Identifier: Apache-2.0
"""How soon a revision that is killed in its soak is out of the way.

Two figures a kill. `steered back` is Aether's own: from the kernel's notice of the death to the moment at which new
connections go to the old revision. `answered` is a client's: from just before kill() to the first answer of the old
revision to a connection that was begun after it, so it holds the kill, the way back and one request.
"""

import os
import signal
import socket
import statistics
import time

from aether import Aether, eventually, free_port
from programs import ASYNCIO, program, service


def answered_by(port):
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        whole = b""
        while chunk := client.recv(65536):
            whole += chunk
        return int(whole.rpartition(b"\r\n\r\n")[2])


def one_kill(aether, port):
    """(steered back, answered) in milliseconds."""
    old = aether.service()["pid"]
    aether.ask("POST", "/v1/services/web/reload", {})
    new = eventually(lambda: aether.service()["phase"] == "soaking" and aether.service()["pid"], "the soak")
    began = time.perf_counter()
    os.kill(new, signal.SIGKILL)
    while True:
        try:
            if answered_by(port) == old:
                break
        except (OSError, ValueError):
            pass  # It had been accepted by the one that died.
    answered = (time.perf_counter() - began) * 1000
    swap = eventually(lambda: (told := aether.service()["last_swap"])["verdict"] != "running" and told, "the verdict")
    assert swap["verdict"] == "rolled-back", swap
    return swap["rollback_ms"], answered


def rollback_rows(folder, kills=20):
    """Rows (figure, median ms, worst ms) for a table."""
    port = free_port()
    config = service(program(folder, "server.py", ASYNCIO), listen=f"127.0.0.1:{port}", soak="10m")
    with Aether(folder / "aether", config) as aether:
        figures = [one_kill(aether, port) for _ in range(kills)]
    names = ("steered back, from the kernel's notice", "answered by the old one, from the kill")
    return [
        (name, f"{statistics.median(column):.2f}", f"{max(column):.2f}")
        for name, column in zip(names, zip(*figures))
    ]


if __name__ == "__main__":
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory(prefix="aether-rollback.") as made:
        for row in rollback_rows(Path(made)):
            print("  ".join(row))
