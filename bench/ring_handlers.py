# SPDX-License-Identifier: Apache-2.0
"""The way from the gateway to a handler: over a port (HTTP/1.1, connections kept) and through shared memory
(`ipc: ring`), the same answer in the same language.

`bench/ring_handlers.py [--quick] [--rounds N] [--json FILE]` with AETHER_TOOLS naming the folder of aether and
aether-load. Each round measures all of them in turns, so that a busy neighbour disturbs all of them. One client gives
the latency of a request, 32 give requests a second of one instance.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

from gateway import free_port, load, wait_for
from machine import machine, version
from tables import table

ROOT = Path(__file__).resolve().parents[1]

PYTHON_HTTP = '''
import asyncio, os, aetherless
class Handler(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.head = transport, b""
    def data_received(self, data):
        self.head += data
        while b"\\r\\n\\r\\n" in self.head:
            head, self.head = self.head.split(b"\\r\\n\\r\\n", 1)
            fields = {}
            for line in head.decode("latin-1").split("\\r\\n")[1:]:
                name, _, value = line.partition(":")
                fields[name.lower()] = value.strip()
            self.transport.write(b"HTTP/1.1 200 OK\\r\\nContent-Type: text/plain\\r\\nContent-Length: 21\\r\\n\\r\\n"
                                 b"hello from a handler\\n")
async def main():
    server = await asyncio.get_running_loop().create_server(Handler, "127.0.0.1", int(os.environ["PORT"]))
    aetherless.ready()
    await server.serve_forever()
asyncio.run(main())
'''
PYTHON_RING = '''
import aetherless
async def handler(request):
    return aetherless.Response(b"hello from a handler\\n", headers=[("Content-Type", "text/plain")])
aetherless.serve(handler)
'''
NODE_HTTP = '''#!/usr/bin/env node
const aetherless = require('aetherless');
const headers = { 'Content-Type': 'text/plain' };
const server = require('http').createServer((request, response) => {
  response.writeHead(200, headers);
  response.end('hello from a handler\\n');
});
server.listen(Number(process.env.PORT), '127.0.0.1', () => aetherless.ready());
'''
NODE_RING = '''#!/usr/bin/env node
const headers = { 'Content-Type': 'text/plain' };
require('aetherless').serve(() => ({ headers, body: 'hello from a handler\\n' }));
'''
CPP_RING = '''
#include "aether_handler.h"
int main() {
  static aether_handler handler;
  aether_request request;
  if (aether_handler_open(&handler) != 0) return 1;
  while (aether_handler_next(&handler, &request) == 1)
    aether_handler_answer(&handler, &request, 200, "text/plain", "hello from a handler\\n", 21);
}
'''
NGINX = '''#!/bin/sh
cat > "$TMPDIR/nginx.conf" <<END
daemon off; worker_processes 1; pid $TMPDIR/nginx.pid; error_log stderr error;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 100000000; client_body_temp_path $TMPDIR/body;
  proxy_temp_path $TMPDIR/proxy; fastcgi_temp_path $TMPDIR/f; uwsgi_temp_path $TMPDIR/u; scgi_temp_path $TMPDIR/s;
  server {{ listen 127.0.0.1:$PORT backlog=4096; location / {{ return 200 "hello from a handler\\\\n"; }} }} }}
END
exec {nginx} -p "$TMPDIR" -c "$TMPDIR/nginx.conf"
'''


def handlers(folder):
    """{name: (path, ipc, keys)} of what this machine can run."""
    found = {}

    def add(name, file, source, ipc, **keys):
        path = folder / file
        path.write_text(source)
        path.chmod(0o755 if not file.endswith(".py") else 0o644)
        found[name] = (path, ipc, keys)

    add("Python, port", "python_port.py", PYTHON_HTTP, "http")
    add("Python, ring", "python_ring.py", PYTHON_RING, "ring")
    if shutil.which("node"):
        add("Node, port", "node_port.js", NODE_HTTP, "http")
        add("Node, ring", "node_ring.js", NODE_RING, "ring")
    if shutil.which("nginx"):
        add("nginx (C), port", "nginx.sh", NGINX.format(nginx=shutil.which("nginx")), "http", ready="port",
            launch="spawn", environment={"TMPDIR": str(folder)})
    compiler = shutil.which("clang++-19") or shutil.which("g++")
    if compiler:
        (folder / "ring.cc").write_text(CPP_RING)
        subprocess.run([compiler, "-O2", "-std=c++17", "-I", str(ROOT / "sdk" / "c"), "-o", str(folder / "ring"),
                        str(folder / "ring.cc")], check=True)
        found["C header, ring"] = (folder / "ring", "ring", {})
    return found


def start(tools, folder, found):
    """An Aether with all of them; {name: port}."""
    ways = {name: free_port() for name in found}
    functions = [{"id": f"f{number}", "memory_limit_mb": 512, "trigger_port": ways[name], "handler_path": str(path),
                  "ipc": ipc, "concurrency": 1000, "min_instances": 1, "max_instances": 1, "sandbox": "none",
                  "launch": "spawn", **keys}
                 for number, (name, (path, ipc, keys)) in enumerate(found.items())]
    config = folder / "aether.json"
    config.write_text(json.dumps({"functions": functions, "observability": {"metrics_port": "none"}}))
    return ways, subprocess.Popen([f"{tools}/aether", "up", "-f", "-c", str(config)], stdout=subprocess.DEVNULL)


def measure(tools, ways, rounds, seconds):
    found = {name: {"p50_us": [], "p99_us": [], "per_second": [], "failed": 0} for name in ways}
    for _ in range(rounds):
        for name, port in ways.items():
            one = load(tools, port, "--clients", "1", "--seconds", str(seconds))
            many = load(tools, port, "--clients", "32", "--seconds", str(seconds))
            found[name]["p50_us"].append(one["p50_us"])
            found[name]["p99_us"].append(one["p99_us"])
            found[name]["per_second"].append(many["ok"] / many["seconds"])
            found[name]["failed"] += one["failed"] + many["failed"]
    for mine in found.values():
        for key in ("p50_us", "p99_us", "per_second"):
            mine[key] = statistics.median(mine[key])
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--quick", action="store_true", help="one round of half a second each")
    parser.add_argument("--json")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 0.5
    tools = os.environ["AETHER_TOOLS"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ways, aether = start(tools, folder, handlers(folder))
        try:
            for port in ways.values():
                wait_for(port)
            found = measure(tools, ways, options.rounds, options.seconds)
        finally:
            aether.terminate()
            aether.wait(30)
    table(f"From the gateway to a handler and back (medians of {options.rounds} rounds in turns, connections kept; "
          "latencies with one client, requests a second of one instance with 32)",
          ["", "p50 us", "p99 us", "requests/s", "failed"],
          [[way, f"{one['p50_us']:.0f}", f"{one['p99_us']:.0f}", f"{one['per_second']:.0f}", one["failed"]]
           for way, one in found.items()])
    if options.json:
        facts = {"machine": machine(), "python": version("python3", "--version"), "ways": found}
        Path(options.json).write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
