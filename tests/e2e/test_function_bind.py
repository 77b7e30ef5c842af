# SPDX-License-Identifier: Apache-2.0
"""`bind: documented`: handlers that bind the port of their function themselves, several side by side, whether the
gateway reaches them or the kernel gives them their clients (`route: direct`)."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import threading

import pytest

from aether import BINARY, PATIENCE, eventually
from own_network import in_own_network
from test_function_life import HANDLER, SAYS, config_of, eventually_hello, function, get

OWN_LISTENER = 'HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()\n'
# Written for one port, as people write it: it knows nothing of Aether but that it says READY.
HARD = HANDLER.replace(", HTTPServer", ", ThreadingHTTPServer as HTTPServer").replace(OWN_LISTENER, """\
class Server(HTTPServer):
    request_queue_size = 512
server = Server(("0.0.0.0", %PORT%), Handler)
server.serve_forever()
""").replace('f"{WORD} {os.getpid()}"',
             'f"{WORD} {os.getpid()} {self.client_address[1]} {server.socket.getsockname()[1]}"')
assert "%PORT%" in HARD and "getsockname" in HARD


def hard(folder, source=HARD, **keys):
    one = function(folder, source, **keys)
    handler = folder / f"{one['id']}.py"
    handler.write_text(source.replace("%PORT%", str(one["trigger_port"])))
    return one


def direct(folder, source=HARD, **keys):
    return hard(folder, source, route="direct", bind="documented", **keys)


def running(aether):
    return [one for one in aether.function()["instances"] if one["state"] == "warm"]


class Load:
    """Clients that ask all the time; what was not answered with 200 is in `failed`, who answered in `words`."""

    def __init__(self, one, clients=4):
        self.one, self.failed, self.words, self.pids = one, [], set(), set()
        self.over = threading.Event()
        self.clients = [threading.Thread(target=self._ask) for _ in range(clients)]

    def _ask(self):
        while not self.over.is_set():
            try:
                status, body = get(self.one)
            except OSError as error:
                status, body = 0, str(error)
            if status != 200:
                self.failed.append((status, body))
            else:
                self.words.add(body.split()[0])
                self.pids.add(int(body.split()[1]))

    def __enter__(self):
        for client in self.clients:
            client.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for client in self.clients:
            client.join(PATIENCE)


@pytest.mark.parametrize("launch", ["auto", "spawn"])
def test_instances_of_a_handler_that_knows_one_port_run_side_by_side(start, tmp_path, bpf, launch):
    one = hard(tmp_path, launch=launch, min_instances=3, environment={"HOST": "0.0.0.0"})
    aether = start(config_of(one))
    told = aether.function()
    assert (told["bind"], told["launch"]) == ("documented", "clone" if launch == "auto" else "spawn"), told
    eventually(lambda: len(running(aether)) == 3, "three of them run")
    ports = {each["port"] for each in running(aether)}
    assert len(ports) == 3 and one["trigger_port"] not in ports, "each has a port of its own below"
    with Load(one, clients=6) as load:
        eventually(lambda: len(load.pids) >= 3, "each of them answers")
    assert load.failed == []
    word, _, _, own_port = get(one)[1].split()
    # A copy's listener was made for it; the one that the program bound tells the port that it asked for.
    assert word == "hello" and (launch == "auto" or int(own_port) == one["trigger_port"])
    assert "documented" in aether.cli("inspect", "f").stdout


def test_who_asks_for_an_internal_port_is_told_one(start, tmp_path):
    tell = HANDLER.replace('f"{WORD} {os.getpid()}"', 'f"{WORD} {os.getpid()} {os.environ[\'PORT\']}"')
    one = function(tmp_path, tell, bind="internal")
    aether = start(config_of(one))
    assert aether.function()["bind"] == "internal"
    assert int(get(one)[1].split()[2]) != one["trigger_port"]


@pytest.mark.parametrize("launch", ["auto", "spawn"])
def test_a_direct_client_is_given_to_an_instance_by_the_kernel(start, tmp_path, bpf, launch):
    one = direct(tmp_path, launch=launch)
    aether = start(config_of(one))
    assert (aether.function()["route"], aether.function()["bind"]) == ("direct", "documented")
    # Nobody serves yet: who comes to a family that the handler does not listen on is brought to it, too.
    first = http.client.HTTPConnection("::1", one["trigger_port"], timeout=PATIENCE)
    first.request("GET", "/")
    assert first.getresponse().read().startswith(b"hello"), "whoever comes first waits until somebody serves"
    first.close()
    client = http.client.HTTPConnection("127.0.0.1", one["trigger_port"], timeout=PATIENCE)
    client.connect()
    own_port = client.sock.getsockname()[1]
    client.request("GET", "/")
    assert int(client.getresponse().read().split()[2]) == own_port, "nothing stands between"
    client.close()
    assert aether.function()["given"] >= 2


def test_from_nothing_to_many_and_back_nobody_is_lost(start, tmp_path, bpf):
    slow = HARD.replace("        body = f", "        import time; time.sleep(0.02)\n        body = f", 1)
    one = direct(tmp_path, slow, concurrency=1, max_instances=4, idle_timeout="200ms", parked=1)
    aether = start(config_of(one))
    for _ in range(2):
        eventually(lambda: not running(aether), "nothing runs")
        with Load(one, clients=8) as load:
            eventually(lambda: len(running(aether)) > 1 and len(load.pids) > 1, "several of them answer")
        assert load.failed == []
    eventually(lambda: not running(aether), "nothing runs any more")


@pytest.mark.parametrize("launch", ["auto", "spawn"])
def test_a_deploy_and_the_way_back_are_changes_of_the_kernels_choice(start, tmp_path, bpf, launch):
    source = HARD.replace('WORD = "hello"', 'WORD = os.environ["WORD"]')
    one = direct(tmp_path, source, launch=launch, idle_timeout="50ms", environment={"WORD": "hello"})
    aether = start(config_of(one))
    with Load(one, clients=3) as load:
        eventually(lambda: "hello" in load.words, "the first one answers")
        aether.write_config(config_of({**one, "environment": {"WORD": "again"}}))
        aether.hangup()
        eventually(lambda: "again" in load.words, "the second one answers")
        load.words.clear()
        assert aether.cli("rollback", "f").returncode == 0
        eventually(lambda: "hello" in load.words, "the first one answers once more")
    assert load.failed == []


def test_who_waits_for_an_instance_that_dies_is_answered_by_the_next(start, tmp_path, bpf):
    # It takes connections one at a time: others wait in its own queue when it is killed.
    stuck = HARD.replace("ThreadingHTTPServer", "HTTPServer").replace(
        "        body = f", """\
        if self.path == "/hang":
            open(os.environ["MARK"], "w").close()
            import time; time.sleep(1000)
        body = f""", 1)
    mark = tmp_path / "hangs"
    one = direct(tmp_path, stuck, max_instances=1, environment={"MARK": str(mark)})
    aether = start(config_of(one))
    eventually_hello(one)
    killed = running(aether)[0]["pid"]
    with http_connection(one) as hanging:
        hanging.request("GET", "/hang")
        eventually(mark.exists, "it hangs")
        answers = []
        waiting = threading.Thread(target=lambda: answers.append(get(one)))
        waiting.start()
        eventually(lambda: aether.function()["requests"]["queued"] >= 1, "somebody waits")
        os.kill(killed, signal.SIGKILL)
        waiting.join(PATIENCE)
    assert answers and answers[0][0] == 200 and answers[0][1].startswith("hello"), answers


class http_connection(http.client.HTTPConnection):
    def __init__(self, one):
        super().__init__("127.0.0.1", one["trigger_port"], timeout=PATIENCE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def test_a_handler_that_binds_another_port_is_told_so(start, tmp_path, bpf):
    wrong = HARD.replace("%PORT%", "0")
    aether = start(config_of(direct(tmp_path, wrong, ready={"timeout": "2s"})))
    told = aether.function()
    assert told["state"] == "FAILED"
    assert str(told["trigger_port"]) in told["problem"] and "it listens on" in told["problem"], told["problem"]


def links_in(network, groups):
    """What bpftool shows at that network namespace and those control groups, by kind of attachment."""
    listed = subprocess.run(["bpftool", "-j", "link", "show"], capture_output=True, text=True, check=True, timeout=60)
    return sorted(one["attach_type"] for one in json.loads(listed.stdout or "[]")
                  if one.get("netns_ino") == network or one.get("cgroup_id") in groups)


def group_of(pid):
    """The number of a process's folder in the tree of control groups v2."""
    with open(f"/proc/{pid}/cgroup", encoding="ascii") as lines:
        name = next(line.strip()[3:] for line in lines if line.startswith("0::"))
    root = "/sys/fs/cgroup/unified" if os.path.isdir("/sys/fs/cgroup/unified") else "/sys/fs/cgroup"
    return os.stat(root + name).st_ino


def test_what_is_in_the_kernel_ends_with_aether(start, tmp_path, bpf):
    if shutil.which("bpftool") is None:
        pytest.skip("bpftool is not installed everywhere")

    def body():
        network = os.stat("/proc/thread-self/ns/net").st_ino
        aether = start(config_of(direct(tmp_path, launch="spawn")))
        groups = [group_of(each["pid"]) for each in aether.function()["instances"]]
        links = links_in(network, groups)
        assert "sk_lookup" in links and "cgroup_inet4_bind" in links and "cgroup_inet6_getsockname" in links, links
        aether.kill()
        eventually(lambda: not links_in(network, groups), "nothing of it is left")

    in_own_network(body)


def test_without_the_right_the_wish_is_refused_at_its_place_and_auto_is_not(start, tmp_path):
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can take rights away, with setpriv")
    drop = ["setpriv", "--bounding-set=-bpf,-net_admin,-sys_admin", "--inh-caps=-bpf,-net_admin,-sys_admin"]
    wish = tmp_path / "wish.yaml"
    wish.write_text("functions:\n  - id: f\n    memory_limit_mb: 64\n    trigger_port: 8080\n"
                    "    handler_path: /bin/true\n    bind: documented\n"
                    "orchestrator:\n  ebpf: {enabled: true, interface: lo}\n")
    told = subprocess.run([*drop, str(BINARY), "validate", str(wish)], capture_output=True, text=True, timeout=60)
    assert told.returncode == 1, told
    assert 'wish.yaml:6:11: function "f": bind: documented: ' in told.stderr and "CAP_" in told.stderr, told.stderr
    assert "wish.yaml:8:19: orchestrator.ebpf: " in told.stderr, told.stderr
    one = function(tmp_path)
    aether = start(config_of(one), wrap=drop)
    assert aether.function()["bind"] == "internal"
    assert any("CAP_" in note for note in aether.function()["notes"]), aether.function()["notes"]
    assert get(one)[0] == 200
