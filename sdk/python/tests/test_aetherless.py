# SPDX-License-Identifier: Apache-2.0
"""aetherless without Aether: copies are made by a bare clone(), as Aether makes them; Python learns nothing of it."""

import os
import socket
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
SDK = os.path.dirname(HERE)
AUTOHOOK = os.path.join(SDK, "aetherless", "autohook")

# copies(count, body): what body() says in each of so many copies; the signal is there before it runs.
PRELUDE = """
import ctypes, json, os, signal, sys
_libc = ctypes.CDLL(None)
_fork = {"x86_64": (57,), "aarch64": (220, 17, 0, 0, 0, 0)}[os.uname().machine]
def copies(count, body, tell=True):
    said = []
    for _ in range(count):
        read, write = os.pipe()
        pid = _libc.syscall(*_fork)
        if pid == 0:
            if tell: os.kill(int(os.readlink("/proc/self")), signal.SIGURG)
            os.write(write, json.dumps(body()).encode())
            os._exit(0)
        os.close(write)
        said.append(json.loads(os.read(read, 65536) or "null"))
        os.close(read)
        os.waitpid(pid, 0)
    return said
"""


def run(script, **environment):
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": SDK, "PYTHONDONTWRITEBYTECODE": "1", **environment}
    done = subprocess.run([sys.executable, "-c", PRELUDE + script], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


class FakeAether:
    """AETHER_SOCKET, answered by hand."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.folder.name, "s")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.settimeout(30)
        self.listener.bind(self.path)
        self.listener.listen()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()
        self.folder.cleanup()


class Reseeding(unittest.TestCase):
    def test_copies_without_the_hook_draw_the_same_numbers(self):
        script = "import random; print(len({json.dumps(x) for x in copies(5, random.random)}))"
        self.assertEqual(run(script), ["1"])

    def test_copies_with_the_hook_draw_numbers_of_their_own(self):
        script = """
import aetherless, random, tempfile, uuid
aetherless.install()
random.seed(1); next(tempfile._get_candidate_names()); uuid.uuid1()
def draw(): return [random.random(), next(tempfile._get_candidate_names()), uuid.uuid1().clock_seq]
drawn = copies(50, draw)
print(len({one[0] for one in drawn}), len({one[1] for one in drawn}), len({one[2] for one in drawn}) > 30)
"""
        self.assertEqual(run(script), ["50 50 True"])

    def test_a_program_may_keep_its_own_seed(self):
        script = """
import aetherless, random
aetherless.install(); aetherless.keep_random(); random.seed(1)
print(len({json.dumps(x) for x in copies(5, random.random)}))
"""
        self.assertEqual(run(script), ["1"])

    def test_a_program_that_knows_nothing_is_reseeded_by_its_environment_alone(self):
        script = "import random; random.seed(1); print(len(set(copies(20, random.random))))"
        path = AUTOHOOK + ":" + SDK
        self.assertEqual(run(script, PYTHONPATH=path, AETHER_SOCKET="/nowhere"), ["20"])
        self.assertEqual(run(script, PYTHONPATH=path, AETHER_SOCKET="/nowhere", AETHER_HOOKS="off"), ["1"])
        self.assertEqual(run(script, PYTHONPATH=path), ["1"])

    def test_the_sitecustomize_of_the_machine_still_runs(self):
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "sitecustomize.py"), "w") as file:
                file.write("print('of the machine', __name__)")
            path = ":".join((AUTOHOOK, SDK, folder))
            lines = run("import aetherless; print(aetherless.is_copy())", PYTHONPATH=path, AETHER_SOCKET="/nowhere")
        self.assertEqual(lines, ["of the machine sitecustomize", "None"])

    def test_a_copied_asyncio_knows_its_running_loop(self):
        script = """
import aetherless, asyncio
aetherless.install()
async def again():
    try: return str(type(asyncio.get_running_loop()).__name__)
    except RuntimeError as error: return str(error)
async def main():
    def body():
        coroutine = again()
        try: coroutine.send(None)
        except StopIteration as stop: return stop.value
    print(copies(2, body))
    if sys.version_info < (3, 12): print(copies(1, body, tell=False))
asyncio.run(main())
"""
        lines = run(script)
        self.assertEqual(lines[0], "['_UnixSelectorEventLoop', '_UnixSelectorEventLoop']")
        if sys.version_info < (3, 12):
            self.assertEqual(lines[1], "['no running event loop']")


class Hooks(unittest.TestCase):
    def test_run_in_the_order_of_snapstart(self):
        script = """
import aetherless
said = []
aetherless.before_snapshot(lambda: said.append("before 1")); aetherless.before_snapshot(lambda: said.append("before 2"))
aetherless.after_restore(lambda: said.append("after 1")); aetherless.register_after_restore(said.append, "after 2")
os.kill(os.getpid(), signal.SIGURG)
os.kill(os.getpid(), signal.SIGURG)
print(said)
print(copies(1, lambda: said)[0], aetherless.is_copy())
"""
        before = ["before 2", "before 1"]
        self.assertEqual(run(script), [str(before), str(before + ["after 1", "after 2"]) + " None"])

    def test_freeze_the_collector_once(self):
        script = """
import aetherless, gc
aetherless.install(); os.kill(os.getpid(), signal.SIGURG)
print(gc.get_freeze_count() > 1000)
"""
        self.assertEqual(run(script), ["True"])

    def test_let_somebody_else_have_the_signal_too(self):
        script = """
import aetherless
signal.signal(signal.SIGURG, lambda *_: print("theirs"))
aetherless.install(); os.kill(os.getpid(), signal.SIGURG)
"""
        self.assertEqual(run(script), ["theirs"])

    def test_that_fail_are_told_and_end_the_copy(self):
        script = """
import aetherless
@aetherless.after_restore
def broken(): raise ValueError("no")
def body():
    return "served"
try: print(copies(1, body))
except ValueError: os._exit(3)
"""
        done = subprocess.run([sys.executable, "-c", PRELUDE + script], env={"PYTHONPATH": SDK}, capture_output=True,
                              text=True, timeout=60)
        self.assertIn("[aetherless] after_restore hook", done.stderr)
        self.assertNotIn("served", done.stdout)


class Wire(unittest.TestCase):
    def test_says_ready_and_answers_snapshot_and_restored(self):
        script = """
import aetherless, select
aetherless.after_restore(lambda: print("restored", flush=True))
aetherless.ready()
while True:
    select.select([], [], [], 0.05)
    copy = aetherless.is_copy()
    if copy and copy.seed: print(copy.instance, copy.seed.hex(), flush=True); break
"""
        with FakeAether() as aether:
            env = {"PYTHONPATH": SDK, "AETHER_SOCKET": aether.path}
            program = subprocess.Popen([sys.executable, "-c", PRELUDE + script], env=env, stdout=subprocess.PIPE)
            peer = aether.listener.accept()[0]
            peer.settimeout(30)
            file = peer.makefile("rb")
            self.assertEqual([file.readline(), file.readline()], [b"READY\n", b"HOOKS\n"])
            peer.sendall(b"SNAPSHOT\n")
            program.send_signal(23)
            self.assertEqual(file.readline(), b"OK\n")
            peer.sendall(b"RESTORED 7 " + b"0f" * 16 + b"\n")
            program.send_signal(23)
            self.assertEqual(file.readline(), b"OK\n")
            self.assertEqual(program.communicate(timeout=30)[0], b"restored\n7 " + b"0f" * 16 + b"\n")
            peer.close()
            file.close()

    def test_answers_a_snapshot_that_comes_before_ready_has_returned(self):
        script = """
import select, signal, socket
class Hurried(socket.socket):
    def sendall(self, data):
        super().sendall(data)
        if data.startswith(b"READY"):
            select.select([self], [], [], 30)
            signal.raise_signal(signal.SIGURG)
socket.socket = Hurried
import aetherless
aetherless.before_snapshot(lambda: print("prepared", flush=True))
print(aetherless.ready(), flush=True)
"""
        with FakeAether() as aether:
            env = {"PYTHONPATH": SDK, "AETHER_SOCKET": aether.path}
            program = subprocess.Popen([sys.executable, "-c", PRELUDE + script], env=env, stdout=subprocess.PIPE)
            peer = aether.listener.accept()[0]
            peer.settimeout(30)
            peer.sendall(b"SNAPSHOT\n")
            with peer, peer.makefile("rb") as file:
                self.assertEqual(file.read(), b"READY\nHOOKS\nOK\n")
            self.assertEqual(program.communicate(timeout=30)[0], b"prepared\nTrue\n")

    def test_starts_no_thread(self):
        script = """
import aetherless, threading
print(aetherless.ready(), threading.active_count(), len(os.listdir("/proc/self/task")))
"""
        with FakeAether() as aether:
            self.assertEqual(run(script, AETHER_SOCKET=aether.path), ["True 1 1"])

    def test_without_aether_does_nothing(self):
        self.assertEqual(run("import aetherless; print(aetherless.ready())"), ["False"])

    def test_hears_no_nonsense(self):
        script = """
from aetherless import hooks, wire
connection = wire._Connection(None)
for line in (["RESTORED", "7", "not hex"], ["RESTORED"], ["SNAPSHOT", "x"], [], ["OK"]): connection.hear(line)
print(hooks.is_copy(), hooks._state.prepared)
"""
        self.assertEqual(run(script), ["None False"])


if __name__ == "__main__":
    unittest.main()
