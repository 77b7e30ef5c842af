# SPDX-License-Identifier: Apache-2.0
"""A running Aether for a test: started from a configuration, asked over its control socket.

Everything lives in the test's own folder: configuration, runtime folder, output. Nothing waits by
sleeping for a fixed time: `eventually` asks until a condition holds, with a generous deadline.
"""

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

BINARY = Path(os.environ.get("AETHER_BIN", Path(__file__).parents[2] / "bin" / "aether"))
SDK = Path(__file__).parents[2] / "sdk" / "python"
PYTHON = os.environ.get("AETHER_TEST_PYTHON", "/usr/bin/python3")

# Under sanitizers a process is slower and larger, and its memory stays when it is freed.
SANITIZED = bool(os.environ.get("AETHER_SANITIZE"))

# Generous: a sanitizer build on two busy cores. Nothing waits this long when all is well.
PATIENCE = float(os.environ.get("AETHER_TEST_PATIENCE", "60"))


def eventually(condition, what, patience=PATIENCE):
    """Asks until `condition()` gives something true, and returns that."""
    deadline = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {patience:.0f}s: {what}")
        time.sleep(0.01)


GIVEN_PORTS = set()


def free_port():
    """None twice, and none that the kernel gives to clients (ip_local_port_range): one of those would
    be taken before the program under test binds it."""
    while True:
        port = random.randrange(20000, 32768)
        if port in GIVEN_PORTS:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        GIVEN_PORTS.add(port)
        return port


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path, timeout=PATIENCE):
        super().__init__("localhost", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Aether:
    """One Aether in the foreground. Use as a context manager: it is stopped at the end."""

    def __init__(self, folder, config, name="aether", env=None, command=("up", "-f"), wrap=()):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config = self.folder / "aeterna.yaml"
        self.write_config(config)
        # Short: the path of a Unix socket has 107 bytes.
        self.runtime = Path(subprocess.check_output(["mktemp", "-d", "/tmp/ae.XXXXXX"], text=True).strip())
        self.runtime.chmod(0o711)  # services of other users reach their sockets in it
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("AETHER", "LISTEN_"))},
            "AETHER_RUNTIME_DIR": str(self.runtime),
            "PYTHONPATH": str(SDK),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            **(env or {}),
        }
        self.binary = BINARY.parent / name
        self.command = [*wrap, str(self.binary), *command, "-c", str(self.config)]  # `wrap` must exec it
        self.output = self.folder / "output.txt"
        self.process = None

    def write_config(self, config):
        text = config if isinstance(config, str) else json.dumps(config, indent=2)  # JSON is YAML
        self.config.write_text(text)

    # ---- life

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, *_):
        self.stop()
        if kind is not None:
            print(f"---- output of {self.command}\n{self.text()[-20000:]}", file=sys.stderr)

    def start(self, wait=True):
        with open(self.output, "ab") as out:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self.env, cwd=self.folder
            )
        if wait:
            eventually(self.serving, f"{self.command} serves; its output: {self.text()}")
        return self

    def serving(self):
        assert self.process.poll() is None, f"Aether ended with {self.process.returncode}:\n{self.text()}"
        try:
            status = self.status()
        except (OSError, http.client.HTTPException):
            return False
        runs = status["services"] + status["functions"]
        return runs and all(one["state"] not in ("PENDING", "STARTING") for one in runs)

    def control_ready(self):
        """Whether the control socket answers yet."""
        assert self.process.poll() is None, f"Aether ended with {self.process.returncode}:\n{self.text()}"
        try:
            return self.status() is not None
        except (OSError, http.client.HTTPException):
            return False

    def stop(self, patience=PATIENCE):
        """Stops it as an operator would; returns its exit code."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(patience)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise
        subprocess.run(["rm", "-rf", str(self.runtime)], check=False)
        return self.process.returncode if self.process else None

    def kill(self):
        self.process.kill()
        self.process.wait()

    def text(self):
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    @property
    def pid(self):
        return self.process.pid

    # ---- control

    @property
    def control_socket(self):
        found = list(self.runtime.glob("*/control.sock"))
        if not found:
            raise FileNotFoundError("no control socket yet")
        return found[0]

    def ask(self, method, path, body=None, timeout=PATIENCE):
        """(status, JSON) of a request to the control socket."""
        connection = UnixConnection(self.control_socket, timeout)
        try:
            connection.request(method, path, body=json.dumps(body) if body is not None else None)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            connection.close()

    def status(self):
        code, body = self.ask("GET", "/v1/status")
        assert code == 200, body
        return body

    def service(self, name=None):
        services = self.status()["services"]
        return services[0] if name is None else next(s for s in services if s["name"] == name)

    def functions(self):
        return self.status()["functions"]

    def function(self, name=None):
        functions = self.functions()
        return functions[0] if name is None else next(f for f in functions if f["id"] == name)

    def reload(self, service=None, **body):
        """Reloads, waits for the verdict and returns the swap; a refusal is (status, problem)."""
        path = f"/v1/services/{service}/reload" if service else "/v1/reload"
        code, answer = self.ask("POST", path + "?wait=true", body)
        return answer["swaps"][0] if code == 200 else (code, answer)

    def hangup(self):
        self.process.send_signal(signal.SIGHUP)

    def cli(self, *words, check=False, **options):
        """Runs a command line of the same binary against this Aether."""
        return subprocess.run(
            [str(self.binary), "-c", str(self.config), *words],
            env=self.env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=check,
            **options,
        )
