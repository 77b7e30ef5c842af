# SPDX-License-Identifier: Apache-2.0
"""What figures must name: the machine, its kernel, its programs."""

import json
import os
import platform
import re
import subprocess
import time
from pathlib import Path

PYTHON = "/usr/bin/python3"


def machine():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), "?")
    memory = int(Path("/proc/meminfo").read_text().split()[1]) // 1024
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_mib": memory,
        "kernel": platform.release(),
        "python": subprocess.check_output([PYTHON, "--version"], text=True).strip(),
        "load_average": os.getloadavg()[0],
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def version(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except OSError:
        return "not installed"
    found = re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr)
    return found.group() if found else "?"


def versions(pm2):
    found = {
        "nginx": version("/usr/sbin/nginx", "-v"),
        "HAProxy": version("/usr/sbin/haproxy", "-v"),
        "gunicorn": version(PYTHON, "-m", "gunicorn", "--version"),
        "uvicorn": version(PYTHON, "-m", "uvicorn", "--version"),
        "node": version("node", "--version"),
    }
    if pm2:
        package = Path(pm2).parents[1] / "pm2" / "package.json"
        found["pm2"] = json.loads(package.read_text())["version"]
    return found
