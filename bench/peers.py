# SPDX-License-Identifier: Apache-2.0
"""Reloads side by side, in one run: each peer by its own means, the same program under Aether.

For each: a quiet load and the same load while it is reloaded again and again, in turns, for new connections
and for kept ones apart; and clients of an event stream that are there before the reloads. The judge is
aether-load, which retries nothing. `python3 bench/peers.py --json FILE [--only a,b] [--quick]`.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
sys.path.insert(0, str(ROOT / "bench"))

from aether import Aether, eventually, free_port  # noqa: E402
import peer_programs as programs  # noqa: E402
from machine import machine, versions  # noqa: E402
from rounds import middle  # noqa: E402

TOOLS = Path(os.environ["AETHER_TOOLS"])
PM2_FOLDER = ROOT / "build" / "bench-peers"
RATE = 400
CLIENTS = 50
STREAMS = 100
ROUNDS = 3
GRACE = 35  # Longer than gunicorn's graceful_timeout and pm2's kill_timeout.


# ---- the programs, by their own means --------------------------------------------------------------


class Peer:
    """A program that reloads itself at a signal."""

    def __init__(self, command, port, reload_signal, folder):
        self.reload_signal = reload_signal
        with open(folder / "output.txt", "wb") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL,
                                            cwd=folder, start_new_session=True)
        eventually(lambda: answers(port), f"{command[0]} answers: {(folder / 'output.txt').read_text()}")

    def reload(self):
        self.process.send_signal(self.reload_signal)

    def stop(self):
        # Masters wait for clients that stay: all of its session goes at once.
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Pm2:
    def __init__(self, port, folder):
        self.binary = pm2_binary()
        self.env = {**os.environ, "PM2_HOME": str(folder / "pm2"), "PORT": str(port)}
        self.env.pop("LISTEN_FDS", None)
        self.run("start", programs.write(folder, "server.js", programs.NODE), "-i", "2", "--name", "web")
        eventually(lambda: answers(port), "pm2 answers")

    def run(self, *words):
        subprocess.run([self.binary, *words], env=self.env, check=True, stdout=subprocess.DEVNULL)

    def reload(self):
        self.run("reload", "web")

    def stop(self):
        self.run("kill")


class UnderAether:
    def __init__(self, name, port, backend, folder, streams):
        command, more = programs.under_aether(name, folder / "program", port, backend)
        # A stream is a turn that never ends, and memory moves only between turns.
        config = {
            "service": {"name": "web", "command": command,
                        "listen": [{"name": "web", "address": f"127.0.0.1:{port}"}], **more},
            "orchestration": {"soak_time": "100ms", "state_handoff": name == "agent" and not streams},
            "observability": {"metrics_port": "none"},
        }
        if streams:
            config["orchestration"].update(drain={"timeout": "60s", "stop": "at_deadline"}, max_revisions=16)
        self.aether = Aether(folder / "aether", config).start()

    def reload(self):
        verdict = self.aether.reload()
        assert verdict["verdict"] == "succeeded", verdict

    def stop(self):
        self.aether.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        self.aether.stop()


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def pm2_binary():
    binary = PM2_FOLDER / "node_modules" / ".bin" / "pm2"
    if not binary.exists():
        npm = shutil.which("npm")
        if not npm:
            return None
        subprocess.run([npm, "install", "--no-audit", "--no-fund", "--prefix", str(PM2_FOLDER), "pm2"],
                       check=True, stdout=subprocess.DEVNULL)
    return str(binary)


def answers(port):
    tried = subprocess.run([TOOLS / "aether-load", f"127.0.0.1:{port}", "--requests", "1", "--clients", "1",
                            "--seconds", "1", "--timeout", "1"], capture_output=True, text=True)
    return json.loads(tried.stdout)["ok"] == 1


SUBJECTS = {
    # name: (what is done, program)
    "nginx -s reload": "nginx", "nginx under Aether": "nginx",
    "HAProxy -W, USR2": "haproxy", "HAProxy under Aether": "haproxy",
    "gunicorn HUP": "gunicorn", "gunicorn under Aether": "gunicorn",
    "pm2 reload (node)": "node", "node under Aether": "node",
    "uvicorn under Aether": "uvicorn",
    "SDK agent under Aether": "agent",
}


@contextmanager
def running(subject, folder, streams=False):
    folder.mkdir(parents=True)
    port, backend_port = free_port(), free_port()
    backend = subprocess.Popen([programs.PYTHON, programs.write(folder, "backend.py", programs.BACKEND),
                                str(backend_port)])
    address = f"127.0.0.1:{port}"
    try:
        # nginx asks a server that refused it once only ten seconds later again.
        eventually(lambda: listens(backend_port), "the server of the streams listens")
        if subject.endswith("under Aether"):
            peer = UnderAether(SUBJECTS[subject], port, backend_port, folder, streams)
        elif subject.startswith("nginx"):
            peer = Peer(programs.nginx(folder, port, backend_port), port, signal.SIGHUP, folder)
        elif subject.startswith("HAProxy"):
            peer = Peer(programs.haproxy(folder, address, backend_port, "-W", "-db"), port, signal.SIGUSR2, folder)
        elif subject.startswith("gunicorn"):
            peer = Peer(programs.gunicorn(folder, "--bind", address), port, signal.SIGHUP, folder)
        else:
            peer = Pm2(port, folder)
        try:
            yield peer, port
        finally:
            peer.stop()
    finally:
        backend.kill()
        backend.wait()


# ---- what clients see ------------------------------------------------------------------------------


def load(port, *more):
    words = [TOOLS / "aether-load", f"127.0.0.1:{port}", "--seconds", "600", "--realtime", *more]
    return subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE, text=True)


def requests(port, mode):
    kept = ["--keep-alive"] if mode == "keep-alive" else []
    return load(port, "--rate", RATE, "--clients", CLIENTS, "--body-is", "X-Pid", *kept)


def finish(process):
    process.send_signal(signal.SIGINT)
    return json.loads(process.communicate(timeout=90)[0])


def reloads(peer, count):
    for _ in range(count):
        began = time.monotonic()
        peer.reload()
        time.sleep(max(0.0, 1.0 - (time.monotonic() - began)))


def measure(subject, folder, count, streams_after):
    result = {"streams_after_s": streams_after, "subject": subject, "program": SUBJECTS[subject], "reloads": count}
    with running(subject, folder / "requests") as (peer, port):
        reloads(peer, 1)  # Warm: page cache, what is made at the first reload.
        for mode in ("new", "keep-alive"):
            quiet, reloaded = [], []
            for _ in range(ROUNDS):
                under_load = requests(port, mode)
                time.sleep(count / ROUNDS)
                quiet.append(finish(under_load))
                under_load = requests(port, mode)
                reloads(peer, round(count / ROUNDS))
                reloaded.append(finish(under_load))
            result[mode] = {"quiet": middle(quiet), "reloaded": middle(reloaded)}
    with running(subject, folder / "streams", streams=True) as (peer, port):
        streams = load(port, "--stream", "sse", "--path", "/events", "--clients", STREAMS)
        time.sleep(1.5)
        reloads(peer, 3)
        time.sleep(streams_after)
        result["streams"] = finish(streams)
    return result


def line(result, mode):
    quiet, busy = result[mode]["quiet"], result[mode]["reloaded"]
    return (f"{result['subject']:24} {mode:10} {busy['requests']:6} requests {busy['failed']:4} failed"
            f" ({busy['idle_closed']} idle-closed) p99.9 {quiet['p999_us']} -> {busy['p999_us']} us,"
            f" max {busy['max_us']}")


def write(path, about, results):
    figures = {"machine": about, "load_average_end": os.getloadavg()[0], "rate": RATE, "clients": CLIENTS,
               "results": results}
    Path(path).write_text(json.dumps(figures, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", required=True)
    parser.add_argument("--only", help="subjects that contain one of these words, comma separated")
    parser.add_argument("--quick", action="store_true", help="three reloads each")
    parser.add_argument("--reloads", type=int, default=15, help="of each, a second apart; in three rounds")
    parser.add_argument("--grace", type=int, default=GRACE, help="seconds that streams are watched after the last")
    options = parser.parse_args()
    words = options.only.split(",") if options.only else [""]
    results = []
    pm2 = pm2_binary()
    about = {**machine(), "versions": versions(pm2)}
    with tempfile.TemporaryDirectory(prefix="aether-bench.") as folder:
        for number, subject in enumerate(SUBJECTS):
            if not any(word in subject for word in words):
                continue
            if subject.startswith("pm2") and not pm2:
                print("pm2 is left out: there is no npm to install it with")
                continue
            count, streams_after = (3, 3) if options.quick else (options.reloads, options.grace)
            result = measure(subject, Path(folder) / str(number), count, streams_after)
            results.append(result)
            write(options.json, about, results)
            for mode in ("new", "keep-alive"):
                print(line(result, mode), flush=True)
            alive = result["streams"]
            print(f"{subject:24} streams    {alive['alive']} of {alive['clients']} live on, {alive['gaps']} gaps",
                  flush=True)


if __name__ == "__main__":
    main()
