# SPDX-License-Identifier: Apache-2.0
"""Workers in Node: as those of workers.py."""

import os
import subprocess
from pathlib import Path

from workers import NUMBERS, House, Worker

SDK = Path(__file__).parents[2] / "sdk" / "node"

PRELUDE = """
const http = require('node:http');
const { agent, idempotencyKey, serve, tool, ...aetheris } = require('aetheris');
const { JUDGE } = process.env;

function tell(path, body = {}) {
  const key = idempotencyKey();
  return new Promise((resolve, reject) => {
    const headers = { 'Content-Type': 'application/json', ...(key && { 'Idempotency-Key': key }) };
    const request = http.request(JUDGE + path, { method: 'POST', headers, agent: false }, answer => {
      let text = '';
      answer.on('data', more => (text += more));
      answer.on('end', () => resolve(JSON.parse(text).n));
    });
    request.on('error', reject);
    request.end(JSON.stringify(body));
  });
}
"""


class NodeWorker(Worker):
    def __init__(self, house, code, env):
        self.file = house.folder / f"worker{next(NUMBERS)}.js"  # tests start several at once
        self.file.write_text(PRELUDE + code + "\nserve();\n")
        self.env = {**os.environ, "NODE_PATH": str(SDK), "AETHER_URL": house.url, "JUDGE": house.judge.url(""), **env}
        self.log = house.folder / f"{self.file.stem}.log"
        self.process = None
        self.start()

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(["node", str(self.file)], env=self.env, stdout=log, stderr=log)
        return self


class NodeHouse(House):
    def worker(self, code, **env):
        made = NodeWorker(self, code, env)
        self.workers.append(made)
        return made
