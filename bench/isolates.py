# SPDX-License-Identifier: Apache-2.0
"""workerd as a comparison: how soon a request is answered that a new isolate must be made for.

It is no dependency: without npm it is left out. Its `workerLoader` makes an isolate in the running process from a
name that it has not seen, so that `/x/1`, `/x/2` ... are isolates of their own; `/warm` is one that lives. All of
them run the same code. An isolate is a V8 heap in a process that runs already, without descriptors, threads or
files of its own: a smaller thing than a process.
"""

import json
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

from aether import eventually, free_port
from first_byte import ask

FOLDER = Path(__file__).parents[1] / "build" / "bench-workerd"

CONFIG = """
using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [ (name = "front", worker = .front) ],
  sockets = [ (name = "http", address = "127.0.0.1:{port}", http = (), service = "front") ]
);
const front :Workerd.Worker = (
  modules = [ (name = "front.js", esModule = embed "front.js") ],
  compatibilityDate = "2025-06-01",
  bindings = [ (name = "isolates", workerLoader = (id = "isolates")) ]
);
"""

FRONT = """
const handler = `
  export default {
    async fetch(request) {
      const facts = {language: "javascript", random: Math.random(), uuid: crypto.randomUUID()};
      return new Response(JSON.stringify(facts) + "\\\\n");
    }
  };`;
const code = () => ({compatibilityDate: "2025-06-01", mainModule: "handler.js", modules: {"handler.js": handler}});
export default {
  async fetch(request, env) {
    const name = new URL(request.url).pathname;
    return env.isolates.get(name, code).getEntrypoint().fetch(request);
  }
};
"""


def workerd():
    """(program, version), or None: there is no npm to fetch it with."""
    package = FOLDER / "node_modules" / "workerd"
    if not package.exists():
        npm = shutil.which("npm")
        if not npm:
            return None
        FOLDER.mkdir(parents=True, exist_ok=True)
        subprocess.run([npm, "install", "--no-audit", "--no-fund", "--prefix", str(FOLDER), "workerd"],
                       check=True, stdout=subprocess.DEVNULL)
    program = next(FOLDER.glob("node_modules/@cloudflare/workerd-*/bin/workerd"))
    return str(program), json.loads((package / "package.json").read_text())["version"]


@contextmanager
def running(program, folder):
    """Its port and process."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    (folder / "config.capnp").write_text(CONFIG.format(port=port))
    (folder / "front.js").write_text(FRONT)
    output = folder / "output.txt"
    with open(output, "wb") as out:
        process = subprocess.Popen([program, "serve", "--experimental", "config.capnp"], cwd=folder, stdout=out,
                                   stderr=out, stdin=subprocess.DEVNULL)
    try:
        def answers():
            assert process.poll() is None, f"workerd ended: {output.read_text()}"
            try:
                return ask(port, "/warm").status == 200
            except OSError:
                return False

        eventually(answers, "workerd answers")
        yield port, process
    finally:
        process.kill()
        process.wait()


def resident_kb(pid):
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Rss:"))
