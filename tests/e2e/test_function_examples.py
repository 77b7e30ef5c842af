# SPDX-License-Identifier: Apache-2.0
"""examples/functions: the configurations are valid, and the handlers do what their pages say, without Aether."""

import http.client
import io
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess

import pytest

from aether import BINARY, PATIENCE, PYTHON, eventually, free_port

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples" / "functions"


class Handler:
    """A handler beside a socket that takes its READY."""

    def __init__(self, command, folder, **environment):
        self.port = free_port()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.settimeout(PATIENCE)
        self.listener.bind(str(folder / "aether.sock"))
        self.listener.listen()
        env = {**os.environ, "AETHER_SOCKET": str(folder / "aether.sock"), "AETHER_TRIGGER_PORT": str(self.port),
               "AETHER_FUNCTION_ID": "fn", **environment}
        self.process = subprocess.Popen([str(word) for word in command], env=env, stdout=subprocess.DEVNULL)

    def __enter__(self):
        peer = self.listener.accept()[0]
        peer.settimeout(PATIENCE)
        said = b""
        while len(said) < 5:
            said += peer.recv(5 - len(said)) or pytest.fail("it ended before READY")
        assert said == b"READY"
        self.peer = peer
        eventually(self.listens, "it listens")
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.peer.close()
        self.listener.close()

    def listens(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type"), answer.read()


@pytest.mark.parametrize("file", sorted(path.name for path in EXAMPLES.glob("*.yaml")))
def test_each_configuration_is_valid(file):
    done = subprocess.run([str(BINARY), "validate", str(EXAMPLES / file)], capture_output=True, text=True,
                          timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert "✓ Configuration is valid" in done.stdout
    functions = re.findall(r"^  - id: (\S+)", (EXAMPLES / file).read_text(), re.M)
    assert f"Functions ({len(functions)}):" in done.stdout
    for name in functions:
        assert f"  - {name} (port: " in done.stdout


def test_hello_says_where_it_was_asked(tmp_path):
    with Handler([PYTHON, EXAMPLES / "hello.py"], tmp_path) as handler:
        status, kind, body = handler.ask("GET", "/users")
        assert (status, kind) == (200, "application/json")
        said = json.loads(body)
        assert said == {"message": "Hello from Aetherless! 🚀", "function": "fn", "path": "/users"}


def test_the_api_has_its_routes_and_takes_what_is_posted(tmp_path):
    with Handler([PYTHON, EXAMPLES / "api.py"], tmp_path) as handler:
        assert handler.ask("GET", "/users")[::2] == (200, b'{"users": [{"id": 1, "name": "Alice"}]}')
        assert handler.ask("GET", "/none")[0] == 404
        status, _, body = handler.ask("POST", "/users", json.dumps({"name": "Bob"}))
        assert (status, json.loads(body)) == (201, {"created": {"name": "Bob"}})


def test_the_image_handler_makes_a_smaller_picture(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="needs Pillow (python3-pil)")
    picture = io.BytesIO()
    image.new("RGB", (640, 480), "teal").save(picture, "png")
    with Handler([PYTHON, EXAMPLES / "image.py"], tmp_path, MAX_SIZE="64", FORMAT="png") as handler:
        status, kind, body = handler.ask("POST", "/", picture.getvalue())
    assert (status, kind) == (200, "image/png")
    assert image.open(io.BytesIO(body)).size == (64, 48)


def test_the_rust_handler_answers_without_reading(tmp_path):
    rustc = shutil.which("rustc") or pytest.skip("needs rustc, not installed everywhere")
    subprocess.run([rustc, "-o", str(tmp_path / "handler"), str(EXAMPLES / "rust-handler.rs")], check=True,
                   timeout=300)
    with Handler([tmp_path / "handler"], tmp_path) as handler, \
            socket.create_connection(("127.0.0.1", handler.port), timeout=PATIENCE) as client:
        answer = b""
        while more := client.recv(4096):
            answer += more
    assert answer == b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"status":"ok"}'
