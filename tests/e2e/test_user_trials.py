# SPDX-License-Identifier: Apache-2.0
"""What somebody meets who tries it without having read everything."""

import re
import socket
from pathlib import Path

import pytest

from aether import PYTHON, Aether, eventually, free_port
from under_load import Load, installed, written

ROOT = Path(__file__).resolve().parents[2]


def test_an_agent_without_the_sdk_installed_is_told_where_it_is(tmp_path):
    (tmp_path / "agent.py").write_text("from aeterna import AeternaClient\n")
    config = {
        "service": {"name": "agent", "command": [PYTHON, str(tmp_path / "agent.py")], "listen": "127.0.0.1:0"},
        "observability": {"metrics_port": "none"},
    }
    aether = Aether(tmp_path / "aether", config, env={"PYTHONPATH": ""})
    try:
        aether.start(wait=False)
        eventually(lambda: "pip install ./sdk/python" in aether.text(), "the hint is told")
    finally:
        aether.stop()


def test_every_link_between_the_pages_leads_somewhere():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("sdk/**/*.md"), *ROOT.glob("examples/**/*.md")]
    assert pages
    broken = []
    for page in pages:
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            if "://" not in link and not (page.parent / link).exists():
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert not broken, broken


CHAT = """
import asyncio, json, os
from fastapi import FastAPI, Response
from fastapi.responses import StreamingResponse
app = FastAPI()
listeners = []
@app.get("/")
async def health(response: Response):
    response.headers["X-Pid"] = str(os.getpid())
    return {"ok": True}
@app.get("/stream")
async def stream():
    queue = asyncio.Queue()
    listeners.append(queue)
    async def events():
        while True:
            yield f"data: {json.dumps(await queue.get())}\\n\\n"
    return StreamingResponse(events(), media_type="text/event-stream")
@app.post("/say")
async def say(text: str):
    for queue in listeners:
        queue.put_nowait(text)
    return {"sent": len(listeners)}
"""

SHOP = """
import os
from flask import Flask
app = Flask(__name__)
@app.get("/")
def index():
    return "hello", 200, {"X-Pid": str(os.getpid())}
"""

SOCKETS = """
import os, socket
from aiohttp import web
async def talk(request):
    session = web.WebSocketResponse()
    await session.prepare(request)
    async for message in session:
        await session.send_str(message.data.upper())
    return session
async def index(request):
    return web.Response(text="ok", headers={"X-Pid": str(os.getpid())})
app = web.Application()
app.add_routes([web.get("/talk", talk), web.get("/", index)])
web.run_app(app, sock=socket.socket(fileno=3), print=None)
"""

API = """
const server = require('http').createServer((request, response) => {
  response.setHeader('X-Pid', String(process.pid));
  response.setHeader('Content-Type', 'application/json');
  response.end(JSON.stringify({path: request.url}));
});
server.listen({fd: 3});
process.on('SIGTERM', () => server.close(() => process.exit(0)));
"""


def of_a_user(name, folder):
    """(command, file that holds the program) as people have them."""
    if name == "chat":
        file = written(folder, "main.py", CHAT)
        return [PYTHON, "-m", "uvicorn", "--fd", "{fd:http}", "--log-level", "warning", "main:app"], file
    if name == "shop":
        return [PYTHON, "-m", "gunicorn", "--threads", "4", "app:app"], written(folder, "app.py", SHOP)
    if name == "sockets":
        file = written(folder, "server.py", SOCKETS)
        return [PYTHON, "server.py"], file
    file = written(folder, "server.js", API)
    return [installed("node"), "server.js"], file


@pytest.mark.edge("B1")
@pytest.mark.parametrize("name", ["chat", "shop", "sockets", "api"])
def test_a_service_as_people_have_it_is_reloaded_under_load_and_a_slip_of_the_pen_is_shown(start, tmp_path, name):
    folder, port = tmp_path / "app", free_port()
    command, file = of_a_user(name, folder)
    config = {
        "service": {"name": name, "command": command, "workdir": str(folder),
                    "listen": {"name": "http", "address": f"127.0.0.1:{port}"}},
        # gunicorn says READY=1 before its workers have read the program.
        "orchestration": {"soak_time": "1s"},
        "observability": {"metrics_port": "none"},
    }
    aether = start(config)
    good = Path(file).read_text()
    with Load(port, rate=200) as load:
        assert aether.cli("reload").returncode == 0, aether.text()
        Path(file).write_text(good + "\nthis is not a program\n")
        slip = aether.cli("reload")
        Path(file).write_text(good)
        assert aether.cli("reload").returncode == 0, aether.text()
    assert slip.returncode == 1 and "serves on" in slip.stdout, slip.stdout
    assert "SyntaxError" in slip.stdout and "this is not a program" in slip.stdout, slip.stdout
    load.lost_nobody(3)


LINES = """
import asyncio, os, signal, socket
async def talk(reader, writer):
    while line := await reader.readline():
        writer.write(b"%d %s" % (os.getpid(), line))
        await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(talk, {where})
    {after}
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, os._exit, 0)
    await server.serve_forever()
{before}
asyncio.run(main())
"""


def lines(before="", after="", where="sock=socket.socket(fileno=3)"):
    return LINES.format(before=before, after=after, where=where)


def say(port):
    """Says a line to the server; the pid of who answered."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(b"hello\n")
        pid, word = client.makefile("rb").readline().split()
        assert word == b"hello"
        return int(pid)


BREAKS = {
    "it imports what is not there": (lines("import no_such_module"), ["No module named 'no_such_module'"]),
    "it ends at once without an error": (lines("raise SystemExit"), ["exited with code 0"]),
    "it waits for ever at its start": (lines("signal.pause()"), ["did not become ready within 3s"]),
    "it listens on another port": (lines(where='"127.0.0.1", 0'), ["did not become ready within 3s", "127.0.0.1:"]),
    "it crashes a moment after it was ready": (
        lines(after="asyncio.get_running_loop().call_later(0.3, lambda: os._exit(print('no cheese') or 3))"),
        ["exited with code 3", "no cheese"]),
}


@pytest.mark.edge("B1", "B2", "B3")
@pytest.mark.parametrize("slip", BREAKS)
def test_a_broken_version_is_told_in_a_way_that_helps_and_the_one_before_serves_on(start, tmp_path, slip):
    port, (text, expected) = free_port(), BREAKS[slip]
    file = written(tmp_path, "server.py", lines())
    config = {
        "service": {"name": "lines", "command": [PYTHON, file], "listen": f"127.0.0.1:{port}"},
        "orchestration": {"soak_time": "2s"},
        "observability": {"metrics_port": "none"},
    }
    aether = start(config)
    before = say(port)
    Path(file).write_text(text)
    if "did not become ready within 3s" in expected:
        config["service"]["ready"] = {"timeout": "3s"}
        aether.write_config(config)
    told = aether.cli("reload")
    assert told.returncode == 1 and "serves on" in told.stdout, told.stdout
    for words in expected:
        assert words in told.stdout, told.stdout
    assert say(port) == before


def test_who_keeps_the_port_for_himself_learns_what_to_write(start, tmp_path):
    port = free_port()
    file = written(tmp_path, "server.py", lines(where=f'"127.0.0.1", {port}'))
    config = {
        "service": {"name": "lines", "command": [PYTHON, file], "listen": "none",
                    "ready": {"tcp": f"127.0.0.1:{port}"}},
        "orchestration": {"soak_time": "1s"},
        "observability": {"metrics_port": "none"},
    }
    aether = start(config)
    told = aether.cli("reload")
    assert told.returncode == 1 and "mode: run" in told.stdout, told.stdout
    config["orchestration"] = {"mode": "run"}
    aether.write_config(config)
    told = aether.cli("reload")
    assert told.returncode == 0, told.stdout
    say(port)
