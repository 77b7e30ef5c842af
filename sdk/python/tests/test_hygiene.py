# SPDX-License-Identifier: Apache-2.0
"""A library that behaves: forks, threads, being called twice, connections that are cut, installing."""

import os
import socket
import subprocess
import sys
import tempfile
import time
import unittest

import fake_aether as fake
from fake_aether import ACK, LOAD

FORKS = """
import os, sys, threading
from aeterna import AeternaClient
client = AeternaClient()
context = client.load_context()
context["pid"] = os.getpid()
listener = client.get_listener_socket()
pid = os.fork()
if pid == 0:
    same = client.get_listener_socket() is listener
    with client.turn(): pass
    print("child", client.managed, client.load_context() == context, same, flush=True)
    os._exit(0)
os.waitpid(pid, 0)
print("parent", client.managed, flush=True)
threading.Event().wait()
"""

FORKS_DURING_A_HANDOFF = """
import os, time
from aeterna import AeternaClient
client = AeternaClient()
client.load_context()
print("set", flush=True)
while client._relay.gate.state == "open": time.sleep(0.0005)
if os.fork() == 0:
    with client.turn(): print("the child works", flush=True)
    os._exit(0)
os.wait()
time.sleep(600)
"""

MANY_THREADS = """
import threading
from aeterna import AeternaClient
client = AeternaClient()
barrier = threading.Barrier(20)
seen = []
def load():
    barrier.wait()
    seen.append(id(AeternaClient().load_context()))
threads = [threading.Thread(target=load) for _ in range(20)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(seen), len(set(seen)), client.load_context(), flush=True)
threading.Event().wait()
"""

IDLE = """
import threading
from aeterna import AeternaClient
client = AeternaClient()
client.load_context()
print("set", flush=True)
threading.Event().wait()
"""


class Hygiene(unittest.TestCase):
    def setUp(self):
        self.aether = fake.FakeAether()
        self.addCleanup(self.aether.close)

    def start(self, code, **arguments):
        child = self.aether.spawn(code, **arguments)
        session = self.aether.accept()
        session.expect(LOAD)
        session.send(ACK, {"of": "load", "memory": "none"})
        return child, session

    def line(self, child):
        return child.stdout.readline().strip()

    def test_a_fork_leaves_the_conversation_to_the_parent(self):
        listener = fake.lane()
        self.addCleanup(listener.close)
        child, session = self.start(FORKS, listener=listener)
        self.assertEqual(self.line(child), "child False True True")
        self.assertEqual(self.line(child), "parent True")
        self.assertEqual(session.export(), {"pid": child.pid}, "the parent still speaks")

    def test_the_parents_end_is_seen_while_its_forks_live_on(self):
        code = IDLE.replace("threading.Event().wait()", "import os\nif os.fork() == 0: threading.Event().wait(5)")
        child, session = self.start(code)
        self.line(child)
        self.assertIsNone(session.frames.get(timeout=30), "the connection has ended with the parent")

    def test_a_fork_during_a_handoff_can_work(self):
        child, session = self.start(FORKS_DURING_A_HANDOFF)
        self.line(child)
        session.export()
        self.assertEqual(self.line(child), "the child works")

    def test_threads_that_load_at_once_get_the_same_memory_and_ask_once(self):
        child, session = self.start(MANY_THREADS)
        self.assertEqual(self.line(child), "20 1 {}")
        self.assertTrue(session.frames.empty(), "one LOAD, and nothing else")

    def test_a_conversation_that_is_cut_is_begun_again_with_growing_pauses(self):
        child, session = self.start(IDLE)
        self.line(child)
        session.socket.shutdown(socket.SHUT_RDWR)
        self.aether.socket.settimeout(30)
        moments = []
        for _ in range(3):
            sock, _ = self.aether.socket.accept()
            moments.append(time.monotonic())
            sock.close()
        gaps = [later - earlier for earlier, later in zip(moments, moments[1:])]
        self.assertGreater(gaps[1], gaps[0] * 1.3)
        back = self.aether.accept()
        self.assertEqual(back.hello["pid"], child.pid)
        self.assertEqual(back.export(), {})

    def test_it_stops_trying_when_the_socket_is_gone(self):
        child, session = self.start(IDLE)
        self.line(child)
        os.unlink(self.aether.path)
        session.socket.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + 30
        while self.threads(child) > 1:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)

    def threads(self, child):
        return len(os.listdir("/proc/%d/task" % child.pid))


class Installing(unittest.TestCase):
    def test_pip_installs_it_without_network_and_without_other_packages(self):
        with tempfile.TemporaryDirectory() as folder:
            pip = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True)
            if pip.returncode == 0:
                done = subprocess.run(
                    [sys.executable, "-m", "pip", "install", "--no-index", "--quiet", "--no-compile",
                     "--disable-pip-version-check", "--target", folder, fake.SDK],
                    capture_output=True, text=True, env=dict(os.environ, PYTHONDONTWRITEBYTECODE="1"),
                )
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            else:
                self.unpack(folder)
            self.assertTrue(os.path.exists(os.path.join(folder, "aeterna", "py.typed")))
            code = "import aeterna, aeterna.http, aeterna.asgi; print(aeterna.__version__, aeterna.__file__)"
            said = subprocess.check_output(
                [sys.executable, "-I", "-c", "import sys; sys.path.insert(0, %r); %s" % (folder, code)],
                text=True,
            )
            self.assertIn(folder, said)

    def unpack(self, folder):
        import zipfile

        made = subprocess.check_output(
            [sys.executable, "-c", "import build_wheel; print(build_wheel.build_wheel(%r))" % folder],
            cwd=fake.SDK, text=True,
        )
        with zipfile.ZipFile(os.path.join(folder, made.strip())) as archive:
            archive.extractall(folder)


if __name__ == "__main__":
    unittest.main()
