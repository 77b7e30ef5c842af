# SPDX-License-Identifier: Apache-2.0
"""Tokens and roles: who may ask what of a running Aether, from this machine and from elsewhere."""

import hashlib
import http.client
import json
import os
import pty
import re
import secrets
import shutil
import socket
import subprocess

import pytest

from aether import BINARY, PATIENCE, Aether, eventually, free_port
from programs import ASYNCIO, program

OPEN = [("GET", "/health"), ("GET", "/metrics")]
LOOKS = [("GET", "/v1/status"), ("GET", "/v1/services"), ("GET", "/v1/services/web"),
         ("GET", "/v1/services/web/inspect")]
LOGS = [("GET", "/v1/services/web/logs")]
CHANGES = [("POST", "/v1/reload?wait=true"), ("POST", "/v1/services/web/reload?wait=true")]


def own_address():
    """An address of this machine that is not a loopback one; None if it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return None
        address = probe.getsockname()[0]
    return None if address.startswith("127.") else address


def needs_own_address():
    address = own_address()
    if address is None:
        pytest.skip("this machine has no address but the loopback ones")
    return address


def config_of(folder, tokens=(), port=None):
    return {
        "service": {"name": "web", "command": program(folder, "web.py", "print('hello there')\n" + ASYNCIO),
                    "listen": f"127.0.0.1:{free_port()}", "stop_timeout": "2s"},
        "orchestration": {"soak_time": "0s"},
        "observability": {"metrics_port": f":{port or free_port()}"},
        "api": {"tokens": list(tokens)},
    }


def port_of(config):
    return int(config["observability"]["metrics_port"].rpartition(":")[2])


def ask(host, port, method, path, token=None, headers=None):
    connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
    try:
        bearer = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request(method, path, headers={**bearer, **(headers or {})})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        connection.close()


def sha256(token):
    return hashlib.sha256(token.encode()).hexdigest()


def as_nobody(*words):
    """What curl gets as another user of this machine: (status, body)."""
    done = subprocess.run(["curl", "-s", "-w", "\n%{http_code}", *words], user=65534, group=65534, extra_groups=[],
                          capture_output=True, text=True, timeout=PATIENCE, cwd="/")
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


# ---- this machine


def test_the_same_user_and_root_reload_over_loopback_without_a_token(start, tmp_path):
    config = config_of(tmp_path)
    aether = start(config)
    done = subprocess.run(["curl", "-s", "-X", "POST", f"http://localhost:{port_of(config)}/v1/reload"],
                          capture_output=True, text=True, timeout=PATIENCE)
    assert json.loads(done.stdout) == {"swaps": [{"service": "web", "swap": 1}]}
    eventually(lambda: aether.service()["revision"] == 2, "it has swapped")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_of_this_machine_may_look_and_change_nothing(start, tmp_path):
    config = config_of(tmp_path)
    aether = start(config)
    url = f"http://127.0.0.1:{port_of(config)}"
    for method, path in OPEN + LOOKS:
        assert as_nobody("-X", method, url + path)[0] == 200, path
    for method, path in CHANGES + LOGS + [("POST", "/v1/stop"), ("POST", "/v1/services/web/rollback")]:
        status, body = as_nobody("-X", method, url + path)
        assert (status, json.loads(body)["code"]) == (403, "forbidden"), path
    assert aether.service()["revision"] == 1
    assert "uid 65534" in aether.text() and "api: refused" in aether.text(), "refusals are logged with who asked"
    page = ask("127.0.0.1", port_of(config), "GET", "/metrics")[2]
    assert 'aether_api_refusals_total{code="forbidden"} 5' in page


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_caller_that_leaves_at_once_is_not_taken_for_root(start, tmp_path):
    # The kernel shows root as the owner of what a process has closed.
    config = config_of(tmp_path)
    aether = start(config)
    code = ("import socket\nfor _ in range(50):\n"
            f" s = socket.create_connection(('127.0.0.1', {port_of(config)}))\n"
            " s.sendall(b'POST /v1/reload HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n')\n s.close()\n")
    subprocess.run(["/usr/bin/python3", "-c", code], user=65534, group=65534, extra_groups=[], check=True, cwd="/")

    def refused():
        page = ask("127.0.0.1", port_of(config), "GET", "/metrics")[2]
        count = re.search(r'aether_api_requests_total\{route="/v1/reload",status="403"\} (\d+)', page)
        return count and int(count.group(1)) == 50

    eventually(refused, "each one was refused")
    assert aether.service()["last_swap"] is None


# ---- elsewhere


def test_tokens_open_what_their_roles_may(start, tmp_path):
    address = needs_own_address()
    tokens = {role: secrets.token_urlsafe(32) for role in ("viewer", "submitter", "approver", "operator", "auditor")}
    config = config_of(tmp_path, [{"name": f"the-{role}", "role": role, "sha256": sha256(token)}
                                  for role, token in tokens.items()])
    aether = start(config)
    port = port_of(config)
    for method, path in OPEN:
        assert ask(address, port, method, path)[0] == 200
    for method, path in LOOKS + LOGS + CHANGES:
        status, headers, body = ask(address, port, method, path)
        assert (status, json.loads(body)["code"]) == (401, "unauthorized"), path
        assert headers["WWW-Authenticate"] == 'Bearer realm="aether"'
        status, headers, body = ask(address, port, method, path, "x" * 43)
        assert status == 401 and 'error="invalid_token"' in headers["WWW-Authenticate"]
    for role, token in tokens.items():
        for method, path in LOOKS + LOGS:
            assert ask(address, port, method, path, token)[0] == 200, (role, path)
        for method, path in CHANGES:
            status, headers, body = ask(address, port, method, path, token)
            if role == "operator":
                assert (status, json.loads(body)["swaps"][0]["verdict"]) == (200, "succeeded")
            else:
                assert (status, json.loads(body)["code"]) == (403, "forbidden")
                assert 'scope="operator"' in headers["WWW-Authenticate"]
    assert aether.service()["revision"] == 1 + len(CHANGES)
    log = aether.text()
    assert f"token the-operator at {address}" in log
    assert not any(token in log for token in tokens.values())


def test_a_token_that_is_sent_decides_also_for_those_who_need_none(start, tmp_path):
    token = secrets.token_urlsafe(32)
    config = config_of(tmp_path, [{"name": "eyes", "role": "viewer", "sha256": sha256(token)}])
    start(config)
    port = port_of(config)
    assert ask("127.0.0.1", port, "POST", "/v1/stop", token)[0] == 403
    assert ask("127.0.0.1", port, "GET", "/v1/status", "wrong-but-long-enough")[0] == 401
    web_page = {"Origin": "http://console.example"}
    assert ask("127.0.0.1", port, "GET", "/v1/status", headers=web_page)[0] == 401
    assert ask("127.0.0.1", port, "GET", "/v1/status", token, web_page)[0] == 200


def test_tokens_of_files_and_variables_are_read_again_and_not_inherited(start, tmp_path):
    address = needs_own_address()
    file, of_file, of_variable = tmp_path / "token", secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    file.write_text(of_file + "\n")
    file.chmod(0o600)
    config = config_of(tmp_path, [{"name": "f", "role": "operator", "file": str(file)},
                                  {"name": "v", "role": "viewer", "env": "CI_TOKEN"}])
    aether = start(config, env={"CI_TOKEN": of_variable})
    port = port_of(config)
    child = open(f"/proc/{aether.service()['pid']}/environ").read()
    assert "CI_TOKEN" not in child and "PATH=" in child
    for token in (of_file, of_variable):
        assert ask(address, port, "GET", "/v1/status", token)[0] == 200
    rotated = secrets.token_urlsafe(32)
    file.write_text(rotated)
    assert aether.reload()["verdict"] == "succeeded"
    assert ask(address, port, "GET", "/v1/status", of_file)[0] == 401
    assert ask(address, port, "GET", "/v1/status", rotated)[0] == 200
    assert ask(address, port, "GET", "/v1/status", of_variable)[0] == 200
    file.chmod(0o644)
    code, problem = aether.reload()
    assert code == 422 and f"chmod 600 {file}" in problem["detail"], "and the reload is refused"
    assert ask(address, port, "GET", "/v1/status", rotated)[0] == 200, "with all as it was"
    page = ask(address, port, "GET", "/metrics")[2]
    assert "aether_config_last_reload_successful 0" in page


# ---- the command line


def test_the_command_line_works_from_elsewhere_with_a_token(start, tmp_path):
    address = needs_own_address()
    made = subprocess.run([str(BINARY), "token", "--name", "ci", "--role", "operator", "-o", "json", "-w",
                           str(tmp_path / "ci.token")], capture_output=True, text=True, check=True)
    told = json.loads(made.stdout)
    assert told == {"name": "ci", "role": "operator", "sha256": told["sha256"], "file": str(tmp_path / "ci.token")}
    assert (tmp_path / "ci.token").stat().st_mode & 0o777 == 0o600
    token = (tmp_path / "ci.token").read_text().strip()
    assert sha256(token) == told["sha256"]
    config = config_of(tmp_path, [{key: told[key] for key in ("name", "role", "sha256")}])
    aether = start(config)
    url = f"http://{address}:{port_of(config)}"

    def remote(*words, **env):
        clean = {key: value for key, value in os.environ.items() if not key.startswith("AETHER_")}
        return subprocess.run([str(BINARY), "--url", url, *words], capture_output=True, text=True, timeout=PATIENCE,
                              env={**clean, **env}, cwd="/")

    assert "RUNNING" in remote("status", AETHER_TOKEN=token).stdout
    assert remote("reload", "--token-file", str(tmp_path / "ci.token")).stdout.startswith("✓ web")
    assert "hello there" in remote("logs", AETHER_TOKEN=token).stdout
    for options, code in (({}, "unauthorized"), ({"AETHER_TOKEN": "not-the-token-at-all"}, "unauthorized")):
        refused = remote("reload", **options)
        assert refused.returncode == 1 and code in refused.stderr and "aether token" in refused.stderr
    (tmp_path / "ci.token").chmod(0o644)
    refused = remote("status", "--token-file", str(tmp_path / "ci.token"))
    assert refused.returncode == 1 and "chmod 600" in refused.stderr
    assert "ssh -L" in subprocess.run([str(BINARY), "--url", "https://x", "status"], capture_output=True,
                                      text=True).stderr
    assert remote("up").returncode == 2
    assert remote("down", AETHER_TOKEN=token).returncode == 0
    assert aether.process.wait(PATIENCE) == 0


def test_a_token_is_shown_once_with_its_line_for_the_configuration(tmp_path):
    text = subprocess.run([str(BINARY), "token", "--name", "me"], capture_output=True, text=True, check=True).stdout
    token = text.splitlines()[0]
    assert re.fullmatch(r"aether_[A-Za-z0-9_-]{44}", token)
    assert f'- {{name: me, role: viewer, sha256: "{sha256(token)}"}}' in text
    (tmp_path / "a.yaml").write_text("service: {command: ['true']}\n" + text[text.index("api:"):])
    assert subprocess.run([str(BINARY), "validate", str(tmp_path / "a.yaml")], capture_output=True).returncode == 0
    done = subprocess.run([str(BINARY), "token", "-w", str(tmp_path / "a.yaml")], capture_output=True, text=True)
    assert done.returncode == 1 and "File exists" in done.stderr, "no file is replaced"


@pytest.mark.parametrize("token,cure", [({"file": "open.token"}, "chmod 600"), ({"env": "NOT_SET"}, "is not set"),
                                        ({"file": "short.token"}, "aether token")])
def test_a_token_that_cannot_be_used_is_a_refusal_to_start_with_the_cure(tmp_path, token, cure):
    (tmp_path / "open.token").write_text(secrets.token_urlsafe(32))
    (tmp_path / "open.token").chmod(0o644)
    (tmp_path / "short.token").write_text("secret")
    (tmp_path / "short.token").chmod(0o600)
    aether = Aether(tmp_path / "a", config_of(tmp_path, [{"name": "ci", **token}]))
    for name in ("open.token", "short.token"):
        shutil.copy2(tmp_path / name, aether.folder / name)
    done = aether.cli("up", "-f")
    aether.stop()
    assert done.returncode == 1 and cure in done.stderr and "the token ci" in done.stderr, done.stderr


# ---- what the command line shows


@pytest.mark.edge("H1")
def test_a_reload_on_a_terminal_shows_its_phases_and_then_the_verdict(start, tmp_path):
    gate = tmp_path / "go"
    config = config_of(tmp_path)
    wait = f"while [ ! -e {gate} ]; do sleep 0.02; done"
    config["orchestration"]["pre_flight"] = [{"name": "gate", "command": ["sh", "-c", wait], "timeout": "300s"}]
    aether = start(config)
    master, slave = pty.openpty()
    process = subprocess.Popen([str(aether.binary), "-c", str(aether.config), "reload"], stdin=slave, stdout=slave,
                               stderr=slave, env={**aether.env, "TERM": "xterm"})
    os.close(slave)
    seen = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:
            break
        seen += piece
        if b"web: preflight" in seen:
            gate.touch()
    os.close(master)
    assert process.wait(PATIENCE) == 0
    assert b"web: preflight" in seen and b"revision 1" in seen, seen


def test_inspect_tells_what_a_service_was_given_without_its_secrets(start, tmp_path):
    config = config_of(tmp_path)
    config["service"]["env"] = {"API_KEY": "do-not-show"}
    aether = start(config)
    text = aether.cli("inspect").stdout
    for part in ("web", "RUNNING", "stop signal", "SIGTERM", "ready", "API_KEY", "listeners", "queued=0"):
        assert part in text, part
    assert "do-not-show" not in text
    answer = json.loads(aether.cli("inspect", "web", "-o", "json").stdout)
    assert answer["configuration"]["environment"] == ["API_KEY"]
    assert answer["service"]["instances"][0]["state"] == "ready"
    assert aether.cli("inspect", "nothing").returncode == 1


def test_numbers_in_json_are_written_plainly(start, tmp_path):
    aether = start(config_of(tmp_path))
    printed = aether.cli("reload", "-o", "json").stdout
    assert json.loads(printed)["total_ms"] > 0
    assert not re.search(r"\dE[+-]?\d", printed + aether.cli("status", "-o", "json").stdout), printed
