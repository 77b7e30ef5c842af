# SPDX-License-Identifier: Apache-2.0
"""The client in processes of its own, against the fake Aether."""

import json
import os
import pickle
import socket
import struct
import subprocess
import sys
import threading
import unittest

import fake_aether as fake
from fake_aether import ACK, CHECKPOINT, ERROR, LISTEN, LOAD, RELEASE, RESUME, STATE_BYTES, STATE_FD, STATE_JSON

from aeterna import state

AGENT = """
import sys, threading
from aeterna import AeternaClient, Released, HandoffError
client = AeternaClient()
try:
    context = client.load_context()
except HandoffError as error:
    print("refused", error, flush=True)
    sys.exit(3)
print("loaded", repr(context)[:200], flush=True)
%s
threading.Event().wait()
"""


class WithAether(unittest.TestCase):
    def setUp(self):
        self.aether = fake.FakeAether()
        self.addCleanup(self.aether.close)

    def start(self, body="", load=True, memory="none", **arguments):
        child = self.aether.spawn(AGENT % body, **arguments)
        session = self.aether.accept(memory)
        session.expect(LOAD)
        if load:
            session.send(ACK, {"of": "load", "memory": "none"})
            self.line(child)
        return child, session

    def line(self, child):
        return child.stdout.readline().strip()


class Memory(WithAether):
    def test_says_who_it_is(self):
        child, session = self.start()
        self.assertEqual(session.hello["instance"], "7")
        self.assertEqual(session.hello["pid"], child.pid)
        self.assertIn("crc32", session.hello["capabilities"])

    def test_starts_empty_when_there_is_no_memory(self):
        child, session = self.start(load=False)
        session.send(ACK, {"of": "load", "memory": "none"})
        self.assertEqual(self.line(child), "loaded {}")

    def test_takes_json_in_several_frames_and_repeats_size_and_checksum(self):
        child, session = self.start(load=False, memory="waiting")
        expected = session.give_state(b'{"turns": [1, 2, 3]}', pieces=4)
        self.assertEqual(session.expect(ACK)[0], expected)
        self.assertEqual(self.line(child), "loaded {'turns': [1, 2, 3]}")

    def test_hands_over_the_dict_it_loaded_as_it_is_by_then(self):
        child, session = self.start("context['turns'] = 4; print('set', flush=True)")
        self.line(child)
        self.assertEqual(session.export(), {"turns": 4})

    def test_chooses_json_bytes_or_pickle_by_what_the_memory_is(self):
        for expression, kind, flags, check in (
            ("{'a': [1, None, True, 1.5, 'x']}", STATE_JSON, 0, lambda d: json.loads(d)["a"][3] == 1.5),
            ("{1: 'int keys'}", STATE_BYTES, fake.PICKLE, lambda d: pickle.loads(d) == {1: "int keys"}),
            ("{'t': (1, 2)}", STATE_BYTES, fake.PICKLE, lambda d: pickle.loads(d) == {"t": (1, 2)}),
            ("b'raw' * 700000", STATE_BYTES, 0, lambda d: d == b"raw" * 700000),
            ("memoryview(b'view')", STATE_BYTES, 0, lambda d: d == b"view"),
        ):
            child, session = self.start("client.save_context(%s); print('set', flush=True)" % expression)
            self.line(child)
            session.ask_export()
            session.expect(CHECKPOINT)
            data, got = session.take_state(kind)
            self.assertEqual(got & fake.PICKLE, flags, expression)
            self.assertTrue(check(data), expression)

    def test_the_export_hook_has_the_last_word(self):
        child, session = self.start(
            "client.on_handoff(lambda: {'from': 'hook'}); print('set', flush=True)"
        )
        self.line(child)
        self.assertEqual(session.export(), {"from": "hook"})

    def test_a_hook_that_raises_is_told_and_the_work_goes_on(self):
        child, session = self.start(
            "client.on_handoff(lambda: 1 / 0)\n"
            "print('set', flush=True)\n"
            "import time\n"
            "while True:\n"
            "    with client.turn(): print('turn', flush=True)\n"
            "    time.sleep(0.01)\n",
        )
        self.line(child)
        session.ask_export()
        error, _, _ = session.expect(ERROR)
        self.assertEqual((error["of"], error["code"]), ("export", "handoff-failed"))
        self.assertIn("ZeroDivisionError", error["message"])
        self.assertEqual([self.line(child) for _ in range(3)], ["turn"] * 3)

    def test_memory_that_arrives_changed_is_refused(self):
        child, session = self.start(load=False, memory="waiting")
        session.send(STATE_JSON, struct.pack(">I", 1) + b"{}", fake.CRC32)
        self.assertEqual(session.expect(ERROR)[0]["code"], "checksum-mismatch")
        self.assertTrue(self.line(child).startswith("refused"))
        self.assertEqual(child.wait(30), 3)

    def test_memory_that_cannot_be_decoded_is_refused(self):
        for data, kind, flags in (
            (b"{not json", STATE_JSON, 0),
            (b"not a pickle", STATE_BYTES, fake.PICKLE),
            (b"cno_such_module\nno_such_class\n.", STATE_BYTES, fake.PICKLE),
        ):
            child, session = self.start(load=False, memory="waiting")
            session.give_state(data, kind, flags)
            self.assertEqual(session.expect(ERROR)[0]["code"], "state-unreadable")
            self.assertTrue(self.line(child).startswith("refused"))

    def test_a_death_of_aether_while_memory_is_promised_ends_the_new_one(self):
        child, session = self.start(load=False, memory="waiting")
        session.socket.shutdown(socket.SHUT_RDWR)
        self.assertTrue(self.line(child).startswith("refused"))

    def test_memory_that_comes_back_is_put_into_the_dict(self):
        child, session = self.start(
            "context['n'] = 1\n"
            "import time\n"
            "print('set', flush=True)\n"
            "while context['n'] == 1: time.sleep(0.001)\n"
            "with client.turn(): print('now', context, flush=True)\n"
        )
        self.line(child)
        self.assertEqual(session.export(), {"n": 1})
        session.send(RELEASE, {})
        session.give_state(b'{"n": 2}')
        session.expect(ACK)
        session.send(RESUME, {"memory": "attached"})
        self.assertEqual(session.expect(ACK)[0], {"of": "resume"})
        self.assertEqual(self.line(child), "now {'n': 2}")


class SharedMemory(WithAether):
    def test_gives_a_sealed_memfd_and_takes_one_without_a_copy(self):
        child, session = self.start(
            "import aeterna\n"
            "buffer = aeterna.Buffer(3 << 20)\n"
            "buffer.view[:5] = b'hello'\n"
            "client.save_context(buffer)\n"
            "print('set', flush=True)\n"
        )
        self.line(child)
        session.ask_export("shm")
        session.expect(CHECKPOINT)
        about, _, fd = session.expect(STATE_FD)
        self.assertEqual((about["size"], about["format"]), (3 << 20, "bytes"))
        view = state.map_sealed(fd, about["size"])
        self.assertEqual(bytes(view[:6]), b"hello\0")

        new, taking = self.start(
            "print(bytes(context[:5]), type(context).__name__, flush=True)",
            load=False, memory="waiting",
        )
        taking.send(STATE_FD, dict(about, crc32c=77), fd=fd)
        self.assertEqual(taking.expect(ACK)[0], {"of": "state", "bytes": 3 << 20, "crc32c": 77})
        self.assertTrue(self.line(new).startswith("loaded <memory"))
        self.assertEqual(self.line(new), "b'hello' memoryview")
        taking.ask_export("shm")
        taking.expect(CHECKPOINT)
        again, _, second = taking.expect(STATE_FD)
        self.assertEqual(os.fstat(second).st_ino, os.fstat(fd).st_ino, "the same memory goes on")
        os.close(fd)
        os.close(second)

    def test_objects_travel_by_memfd_too(self):
        for expression, format in (("{'a': 1}", "json"), ("{1: b'x' * 100000}", "pickle")):
            child, session = self.start("client.save_context(%s); print('set', flush=True)" % expression)
            self.line(child)
            session.ask_export("shm")
            session.expect(CHECKPOINT)
            about, _, fd = session.expect(STATE_FD)
            self.assertEqual(about["format"], format)
            value = state.decode(format, state.map_sealed(fd, about["size"]))
            self.assertEqual(value, eval(expression))
            os.close(fd)

    def test_a_memfd_that_could_change_is_refused(self):
        child, session = self.start(load=False, memory="waiting")
        fd = os.memfd_create("test", os.MFD_ALLOW_SEALING)
        os.write(fd, b"12")
        session.send(STATE_FD, {"size": 2, "format": "json"}, fd=fd)
        self.assertTrue(self.line(child).startswith("refused"))
        os.close(fd)

    def test_a_buffer_with_views_left_cannot_be_handed_over(self):
        buffer = state.Buffer(4096)
        kept = buffer.view[:10]
        with self.assertRaisesRegex(RuntimeError, "memoryview made from"):
            buffer.seal()
        kept.release()
        buffer.view.release()


class Turns(WithAether):
    BODY = (
        "import time\n"
        "context['n'] = 0\n"
        "def work():\n"
        "    try:\n"
        "        while True:\n"
        "            with client.turn():\n"
        "                n = context['n']\n"
        "                time.sleep(0.0005)\n"
        "                context['n'] = n + 1\n"
        "                with client.turn(): pass\n"
        "    except Released: print('released', context['n'], flush=True)\n"
        "threading.Thread(target=work, daemon=True).start()\n"
        "print('set', flush=True)\n"
    )

    def test_a_handoff_falls_between_turns_and_nothing_is_applied_after_it(self):
        child, session = self.start(self.BODY)
        self.line(child)
        exported = session.export()["n"]
        session.send(RELEASE, {})
        self.assertEqual(self.line(child), "released %d" % exported)

    def test_turns_go_on_after_resume_from_where_they_were(self):
        child, session = self.start(self.BODY)
        self.line(child)
        last = -1
        for _ in range(20):
            exported = session.export()["n"]
            self.assertGreaterEqual(exported, last)
            last = exported
            session.send(RESUME, {"memory": "own"})
            self.assertEqual(session.expect(ACK)[0], {"of": "resume"})

    def test_resume_without_a_handoff_is_answered_and_changes_nothing(self):
        child, session = self.start()
        session.send(RESUME, {"memory": "own"})
        self.assertEqual(session.expect(ACK)[0], {"of": "resume"})

    def test_a_turn_that_does_not_end_fails_the_handoff_in_time(self):
        child, session = self.start(
            "import time\n"
            "def work():\n"
            "    with client.turn():\n"
            "        print('in', flush=True)\n"
            "        time.sleep(60)\n"
            "threading.Thread(target=work, daemon=True).start()\n",
        )
        self.line(child)
        session.ask_export(deadline_ms=200)
        self.assertEqual(session.expect(ERROR)[0]["code"], "quiesce-timeout")

    def test_work_goes_on_when_aether_dies_during_a_handoff(self):
        child, session = self.start(
            "import time\n"
            "print('set', flush=True)\n"
            "while client._relay.gate.state == 'open': time.sleep(0.001)\n"
            "print('quiesced', flush=True)\n"
            "with client.turn(): print('worked', flush=True)\n",
        )
        self.line(child)
        session.export()
        self.assertEqual(self.line(child), "quiesced")
        session.socket.shutdown(socket.SHUT_RDWR)
        self.assertEqual(self.line(child), "worked")

    def test_asyncio_turns_wait_without_blocking_the_loop(self):
        child, session = self.start(
            "import asyncio\n"
            "async def main():\n"
            "    ticks = 0\n"
            "    async def tick():\n"
            "        nonlocal ticks\n"
            "        while True: ticks += 1; await asyncio.sleep(0.001)\n"
            "    asyncio.ensure_future(tick())\n"
            "    async with client.aturn(): print('first', flush=True)\n"
            "    while client._relay.gate.state == 'open': await asyncio.sleep(0.001)\n"
            "    before = ticks\n"
            "    try:\n"
            "        async with client.aturn(): pass\n"
            "    except Released: print('released', ticks > before, flush=True)\n"
            "asyncio.run(main())\n"
        )
        self.assertEqual(self.line(child), "first")
        session.export()
        threading.Event().wait(0.05)
        session.send(RELEASE, {})
        self.assertEqual(self.line(child), "released True")


class Listeners(WithAether):
    PRINT = "sock = client.get_listener_socket(); print(sock.getsockname(), sock.fileno(), flush=True)"

    def test_the_first_listener_is_at_fd_3_and_the_signs_are_removed(self):
        listener = fake.lane()
        child, _ = self.start(
            self.PRINT + "\nimport os; print(sorted(k for k in os.environ if 'FDS' in k), flush=True)",
            listener=listener,
        )
        self.assertEqual(self.line(child), "%r 3" % (listener.getsockname(),))
        self.assertEqual(self.line(child), "[]")
        listener.close()

    def test_asks_aether_for_a_listener_when_it_has_none(self):
        listener = fake.lane()
        child, session = self.start(self.PRINT, environment={"PORT": "1234"})
        self.assertEqual(session.expect(LISTEN)[0], {"address": ":1234"})
        session.send(ACK, {"of": "listen", "name": "http", "address": "x"}, fd=listener.fileno())
        self.assertTrue(self.line(child).startswith(repr(listener.getsockname())))
        listener.close()

    def test_says_when_aether_has_no_listener(self):
        child, session = self.start(
            "try: client.get_listener_socket()\nexcept OSError as error: print(error, flush=True)"
        )
        session.expect(LISTEN)
        session.send(ERROR, {"of": "listen", "code": "address-in-use", "message": "pid 5 has it"})
        self.assertIn("pid 5 has it", self.line(child))


class Alone(unittest.TestCase):
    def run_alone(self, code, environment=()):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("LISTEN_", "AETER", "AETHER_"))}
        env["PYTHONPATH"] = fake.SDK
        env.update(environment)
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def test_works_without_aether_and_says_nothing(self):
        done = self.run_alone(
            "from aeterna import AeternaClient\n"
            "c = AeternaClient()\n"
            "context = c.load_context()\n"
            "with c.turn(): context['a'] = 1\n"
            "print(context, c.managed, c.ready(), c.load_context() is context)\n"
            "s = c.get_listener_socket(); print(s.getsockname()[1] > 0, s is c.get_listener_socket())",
            {"PORT": "0"},
        )
        self.assertEqual(done.stdout, "{'a': 1} False False True\nTrue True\n")
        self.assertEqual(done.stderr, "")

    def test_a_socket_that_nobody_answers_is_loss_of_memory_and_not_of_service(self):
        done = self.run_alone(
            "from aeterna import AeternaClient\nprint(AeternaClient().load_context())",
            {"AETERNA_STATE_SOCK": "/nonexistent/srp.sock"},
        )
        self.assertEqual(done.stdout, "{}\n")
        self.assertIn("[Aeterna-SDK]", done.stderr)

    def test_an_fd_3_that_is_no_socket_is_ignored(self):
        done = self.run_alone(
            "import os; os.dup2(0, 3)\n"
            "from aeterna import AeternaClient\n"
            "print(AeternaClient().get_listener_socket().fileno() != 3)",
            {"PORT": "0", "AETERNA_INHERITED_FDS": "1"},
        )
        self.assertEqual(done.stdout, "True\n")

    def test_tells_the_notify_socket_that_it_is_ready(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            name = "\0aeterna-test-%d" % os.getpid()
            notify.bind(name)
            notify.settimeout(30)
            self.run_alone(
                "from aeterna import AeternaClient\nc = AeternaClient(); c.ready(); c.status('a\\nb')",
                {"NOTIFY_SOCKET": "@" + name[1:]},
            )
            self.assertEqual(notify.recv(100), b"READY=1")
            self.assertEqual(notify.recv(100), b"STATUS=a b")


class Figures(unittest.TestCase):
    def test_fifty_kilobytes_of_json_are_ready_to_send_in_about_a_millisecond(self):
        import time

        turns = [{"role": "user", "text": "x" * 180} for _ in range(240)]
        context = {"users": {"u%d" % i: turns[i * 10 : i * 10 + 10] for i in range(24)}}
        best = 1.0
        for _ in range(20):
            began = time.perf_counter()
            encoded = state.encode(context)
            frames_out = list(fake_frames(encoded))
            best = min(best, time.perf_counter() - began)
        self.assertGreater(encoded.size, 48_000)
        self.assertEqual(len(frames_out), 1)
        self.assertLess(best, 0.005, "generous: about 0.3 ms on an idle machine")


def fake_frames(encoded):
    from aeterna import frames

    return frames.state_frames(*state.frame_type(encoded.format), encoded.data)


if __name__ == "__main__":
    unittest.main()
