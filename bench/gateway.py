# SPDX-License-Identifier: Apache-2.0
"""What the gateway adds: the same handler directly, through nginx's proxy_pass, through the gateway, and as a
function with `route: direct, bind: documented`, which the kernel reaches without a hop (where BPF may be loaded).

`bench/gateway.py [--quick] [--rounds N] [--json FILE]` with AETHER_TOOLS naming the folder of gateway-driver, aether
and aether-load. The handler is nginx answering from memory, with connections kept: what is measured is the way to
it, not it. Each round measures all of them in turns, so that a busy neighbour disturbs all of them.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import machine, version
from peer_programs import find
from tables import table

CONFIG = """
daemon off;
worker_processes 1;
pid {folder}/{name}.pid;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 100000000;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  {body}
}}
"""
HANDLER = """
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 "hello from a handler\\n"; }} }}"""
PROXY = """
  upstream handler {{ server 127.0.0.1:{handler}; keepalive 256; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://handler; proxy_http_version 1.1;
      proxy_set_header Connection ""; proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Call-Id $request_id;
      proxy_buffering off; proxy_request_buffering off;
    }}
  }}
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port):
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.01)
    sys.exit(f"bench: nothing listens on {port}")


def start_nginx(folder, name, body):
    path = Path(folder) / f"{name}.conf"
    path.write_text(CONFIG.format(folder=folder, name=name, body=body))
    return subprocess.Popen([find("nginx"), "-p", folder, "-c", str(path)])


def start_function(tools, folder, port):
    """An Aether with the handler as a function that the kernel gives its clients; None where it may not."""
    conf, handler, config = (Path(folder) / name for name in ("function.conf", "function.sh", "function.json"))
    conf.write_text(CONFIG.format(folder=folder, name="function", body=HANDLER.format(port=port)))
    handler.write_text(f"#!/bin/sh\nexec {find('nginx')} -p {folder} -c {conf}\n")
    handler.chmod(0o755)
    config.write_text(json.dumps({
        "functions": [{"id": "bench", "memory_limit_mb": 512, "trigger_port": port, "handler_path": str(handler),
                       "route": "direct", "bind": "documented", "ready": "port", "launch": "spawn",
                       "min_instances": 1, "max_instances": 1, "sandbox": "none"}],
        "observability": {"metrics_port": "none"}}))
    if subprocess.run([f"{tools}/aether", "validate", str(config)], capture_output=True, check=False).returncode != 0:
        return None
    return subprocess.Popen([f"{tools}/aether", "up", "-f", "-c", str(config)], stdout=subprocess.DEVNULL)


def load(tools, port, *options):
    done = subprocess.run([f"{tools}/aether-load", f"127.0.0.1:{port}", "--keep-alive", *options],
                          capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def summary(values):
    return statistics.median(values)


def measure(tools, ways, rounds, seconds):
    found = {name: {"p50_us": [], "p99_us": [], "per_second": [], "failed": 0} for name in ways}
    for _ in range(rounds):
        for name, port in ways.items():
            one = load(tools, port, "--clients", "1", "--seconds", str(seconds))
            many = load(tools, port, "--clients", "32", "--seconds", str(seconds))
            mine = found[name]
            mine["p50_us"].append(one["p50_us"])
            mine["p99_us"].append(one["p99_us"])
            mine["per_second"].append(many["ok"] / many["seconds"])
            mine["failed"] += one["failed"] + many["failed"]
    for mine in found.values():
        for key in ("p50_us", "p99_us", "per_second"):
            mine[key] = summary(mine[key])
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
    handler, proxy, gateway, function = free_port(), free_port(), free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        running = [start_nginx(folder, "handler", HANDLER.format(port=handler)),
                   start_nginx(folder, "front", PROXY.format(port=proxy, handler=handler)),
                   subprocess.Popen([f"{tools}/gateway-driver", str(gateway), str(handler)],
                                    stdin=subprocess.PIPE)]
        by_kernel = start_function(tools, folder, function)
        try:
            ways = {"direct": handler, "nginx proxy_pass": proxy, "gateway": gateway}
            if by_kernel:
                running.append(by_kernel)
                ways["route: direct"] = function
            for port in ways.values():
                wait_for(port)
            found = measure(tools, ways, options.rounds, options.seconds)
        finally:
            for process in running:
                process.terminate()
                process.wait(10)
    base = found["direct"]
    table(f"The way to a handler that runs (medians of {options.rounds} rounds in turns, connections kept; latencies "
          "with one client, requests a second with 32)",
          ["", "p50 us", "p99 us", "p99 / direct", "adds us", "requests/s", "failed"],
          [[name, f"{one['p50_us']:.0f}", f"{one['p99_us']:.0f}", f"{one['p99_us'] / base['p99_us']:.1f}x",
            f"{one['p50_us'] - base['p50_us']:.0f}", f"{one['per_second']:.0f}", one["failed"]]
           for name, one in found.items()])
    if options.json:
        facts = {"machine": machine(), "nginx": version(find("nginx"), "-v"), "ways": found}
        Path(options.json).write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
