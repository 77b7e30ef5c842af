# SPDX-License-Identifier: Apache-2.0
"""A terminal of a given size with a program in it (tmux), and an Aether made of values to show there."""

import json
import re
import shutil
import subprocess
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aether import eventually

COLOUR = re.compile(r"\x1b\[[0-9;]*(?:3[0-7]|38;)[0-9;]*m")


class Terminal:
    """Use as a context manager. `lines()` is what a person sees."""

    def __init__(self, words, columns, rows, env):
        self.folder = tempfile.mkdtemp(prefix="ae-tmux.", dir="/tmp")  # short: it holds a Unix socket
        self.tmux = ["tmux", "-u", "-S", f"{self.folder}/s", "-f", "/dev/null"]
        self.size = (columns, rows)
        self.env = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", **env}
        # What it ends with stays on the screen, after what the program left there.
        inner = ["env", *(f"{k}={v}" for k, v in self.env.items()), *words]
        self.script = "trap : INT; " + " ".join(f"'{word}'" for word in inner) + "; echo \"ended with $?\"; exec cat"

    def __enter__(self):
        columns, rows = self.size
        self._ask("new-session", "-d", "-x", str(columns), "-y", str(rows), "sh", "-c", self.script)
        return self

    def __exit__(self, *_):
        subprocess.run([*self.tmux, "kill-server"], capture_output=True, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _ask(self, *words):
        done = subprocess.run([*self.tmux, *words], capture_output=True, text=True, env=self.env, check=False)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    def lines(self):
        return self._ask("capture-pane", "-p").split("\n")[:-1]

    def text(self):
        return "\n".join(self.lines())

    def has_colour(self):
        return bool(COLOUR.search(self._ask("capture-pane", "-p", "-e")))

    def press(self, *keys):
        """tmux's names: Enter, Up, Escape, PageDown; else letters."""
        for key in keys:
            self._ask("send-keys", key)

    def resize(self, columns, rows):
        self._ask("resize-window", "-x", str(columns), "-y", str(rows))

    def shows(self, *texts):
        """Waits until all of these are on the screen; gives the screen."""
        seen = []

        def there():
            seen[:] = self.lines()
            return all(text in "\n".join(seen) for text in texts)

        try:
            eventually(there, f"on the screen: {texts}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n" + "\n".join(seen)) from None
        return seen


def histogram(*counts):
    return {"p50_ms": 1.0, "p99_ms": 2.0, "total_ms": 3.0, "counts": list(counts)}


def function(name, port=8080, **more):
    return {
        "id": name, "state": "RUNNING", "revision": 3, "pid": 501, "trigger_port": port,
        "handler_path": f"/opt/handlers/{name}.py", "route": "gateway", "launch": "clone", "not_cloneable": [],
        "notes": ["no reseeding hook: clones share random numbers"], "sandbox": "basic", "memory_limit_mb": 128,
        "min_instances": 0, "max_instances": 10, "out_of_memory": 0, "crashes": 0, "problem": None,
        "instances": [
            {"instance": 7, "revision": 3, "pid": 502, "state": "warm", "tier": "clone", "port": 40001,
             "since": "2026-11-21T03:14:15.926Z", "memory_bytes": 2 << 20, "in_flight": 1},
            {"instance": 8, "revision": 3, "pid": 503, "state": "parked", "tier": "clone", "port": 40002,
             "since": "2026-11-21T03:14:15.926Z", "memory_bytes": 1 << 20, "in_flight": 0}],
        "starts": {"clone": {"count": 12, "failed": 1, **histogram(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12)}},
        "requests": {"count": 0, "in_flight": 1, "queued": 0, "by_status": {"200": 0}, "refusals": {},
                     "latency": histogram()},
        **more,
    }


def service(name):
    return {"name": name, "state": "RUNNING", "phase": "idle", "revision": 2, "pid": 601, "restarts": 0,
            "problem": None, "command": ["python3", "agent.py"], "listeners": [], "draining": [],
            "instances": [{"instance": 1, "revision": 2, "pid": 601, "state": "ready",
                           "since": "2026-11-21T03:14:15.926Z", "memory_bytes": 9 << 20}]}


class FakeAether:
    """Answers /v1/status with what `status` holds, and remembers what it was told to do."""

    def __init__(self, functions, services=()):
        self.status = {"version": "9.8.7", "pid": 42, "uptime": "1h 2m", "uptime_seconds": 3720.0,
                       "config": "/etc/aether.yaml", "functions": list(functions), "services": list(services)}
        self.told = []
        self.answer = {"deploys": [{"verdict": "succeeded", "revision": 4, "why": ""}]}
        self.port = 0
        self.start()

    def start(self):
        house = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.send(house.status)

            def do_POST(self):
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                house.told.append(self.path)
                self.send(house.answer)

            def send(self, body):
                text = json.dumps(body).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        ThreadingHTTPServer.allow_reuse_address = True
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def serve_requests(self, name, count, bucket):
        """As if so many more had been answered, each within the bucket's time."""
        one = next(f for f in self.status["functions"] if f["id"] == name)
        requests = json.loads(json.dumps(one["requests"]))
        requests["count"] += count
        requests["by_status"]["200"] += count
        counts = requests["latency"]["counts"]
        counts.extend([0] * (bucket + 1 - len(counts)))
        counts[bucket] += count
        one["requests"] = requests
