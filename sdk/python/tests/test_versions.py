# SPDX-License-Identifier: Apache-2.0
"""Versions of the memory: what a program takes, what it refuses, and a check that only reads."""

import json
import os
import unittest

import fake_aether as fake
from fake_aether import ACK, CHECKPOINT, ERROR, EXPORT, LOAD, RELEASE, RESUME, STATE_JSON

AGENT = """
import sys, threading
from aeterna import AeternaClient, HandoffError
def migrate(memory, version):
    if version == 9: raise KeyError("version 9 has no such field")
    memory["came from"] = version
    return memory
client = AeternaClient(%s)
try:
    context = client.load_context()
except HandoffError as error:
    print("refused", error, flush=True)
    sys.exit(3)
print("loaded", context, flush=True)
%s
threading.Event().wait()
"""


class Base(unittest.TestCase):
    def setUp(self):
        self.aether = fake.FakeAether()
        self.addCleanup(self.aether.close)

    def start(self, arguments, body="", memory="waiting", environment=()):
        child = self.aether.spawn(AGENT % (arguments, body), environment=environment)
        session = self.aether.accept(memory)
        session.load, _, _ = session.expect(LOAD)
        return child, session

    def give(self, session, value, version):
        if version:
            session.send(CHECKPOINT, {"state_version": version})
        return session.give_state(json.dumps(value).encode())

    def line(self, child):
        return child.stdout.readline().strip()


class Versions(Base):
    def test_says_its_version_in_hello_and_with_the_memory(self):
        child, session = self.start("version=3, migrate=migrate, migrates_from=[2, 1]", memory="none")
        self.assertEqual((session.hello["state_version"], session.hello["migrates_from"]), (3, [1, 2]))
        self.assertEqual(session.load, {"state_version": 3})
        session.send(ACK, {"of": "load", "memory": "none"})
        self.line(child)
        session.ask_export()
        self.assertEqual(session.expect(CHECKPOINT)[0]["state_version"], 3)
        session.take_state()

    def test_memory_of_its_own_version_is_taken_as_it_is(self):
        child, session = self.start("version=3, migrate=migrate")
        expected = self.give(session, {"a": 1}, 3)
        self.assertEqual(session.expect(ACK)[0], expected)
        self.assertEqual(self.line(child), "loaded {'a': 1}")

    def test_memory_of_another_version_is_migrated_before_it_is_confirmed(self):
        for version in (0, 2, 4):
            child, session = self.start("version=3, migrate=migrate")
            expected = self.give(session, {"a": 1}, version)
            self.assertEqual(session.expect(ACK)[0], expected)
            self.assertEqual(self.line(child), "loaded {'a': 1, 'came from': %d}" % version)

    def test_a_version_it_does_not_know_is_refused_with_its_name(self):
        for arguments, version, words in (
            ("version=3", 2, "version 2"),
            ("version=3", 0, "0 (its program says none)"),
            ("version=3, migrate=migrate, migrates_from=[1]", 2, "does not migrate that"),
            ("version=3, migrate=migrate", 9, "no such field"),
        ):
            child, session = self.start(arguments)
            self.give(session, {"a": 1}, version)
            error, _, _ = session.expect(ERROR)
            self.assertEqual((error["of"], error["code"]), ("state", "state-version-unknown"))
            self.assertIn(words, error["message"])
            self.assertTrue(self.line(child).startswith("refused"))
            self.assertEqual(child.wait(30), 3)

    def test_a_program_without_versions_takes_what_comes(self):
        child, session = self.start("")
        self.give(session, {"a": 1}, 7)
        session.expect(ACK)
        self.assertEqual(self.line(child), "loaded {'a': 1}")

    def released(self, arguments):
        child, session = self.start(
            arguments,
            "client.on_resume(lambda memory: print('resumed with', memory, flush=True))\n"
            "print('set', flush=True)\n",
            memory="none",
        )
        session.send(ACK, {"of": "load", "memory": "none"})
        self.line(child)
        self.line(child)
        session.export()
        session.send(RELEASE, {"accept": True})
        return child, session

    def test_an_old_program_gets_back_what_a_newer_one_made_of_its_memory_if_it_can_migrate_it(self):
        child, session = self.released("version=3, migrate=migrate")
        self.give(session, {"b": 2}, 4)
        session.expect(ACK)
        session.send(RESUME, {"memory": "attached"})
        self.assertEqual(session.expect(ACK)[0], {"of": "resume"})
        self.assertEqual(self.line(child), "resumed with {'b': 2, 'came from': 4}")

    def test_an_old_program_that_cannot_migrate_back_says_so_and_works_on_with_its_own(self):
        child, session = self.released("version=3")
        self.give(session, {"b": 2}, 4)
        self.assertEqual(session.expect(ERROR)[0]["code"], "state-version-unknown")
        session.send(RESUME, {"memory": "own"})
        self.assertEqual(session.expect(ACK)[0], {"of": "resume"})
        self.assertEqual(self.line(child), "resumed with None")

    def test_two_clients_that_say_different_versions_are_a_mistake(self):
        child, session = self.start(
            "version=3",
            "try: AeternaClient(version=4)\nexcept ValueError as error: print(error, flush=True)\n"
            "AeternaClient(version=3); AeternaClient(); print('fine', flush=True)",
            memory="none",
        )
        session.send(ACK, {"of": "load", "memory": "none"})
        self.line(child)
        self.assertIn("version=3", self.line(child))
        self.assertEqual(self.line(child), "fine")


class Check(Base):
    CHECKING = {"AETERNA_CHECK_STATE": "1"}

    def test_reads_migrates_and_ends_without_going_on(self):
        child, session = self.start("version=3, migrate=migrate", environment=self.CHECKING)
        expected = self.give(session, {"a": 1}, 2)
        self.assertEqual(session.expect(ACK)[0], expected)
        self.assertEqual(child.wait(30), 0)
        self.assertEqual(child.stdout.read(), "", "what comes after load_context() does not happen")

    def test_ends_with_a_failure_when_the_memory_cannot_be_read(self):
        child, session = self.start("version=3", environment=self.CHECKING)
        self.give(session, {"a": 1}, 2)
        self.assertEqual(session.expect(ERROR)[0]["code"], "state-version-unknown")
        self.assertEqual(child.wait(30), 3)

    def test_ends_with_a_failure_when_the_memory_cannot_be_handed_over_again(self):
        body = "version=3, migrate=lambda memory, version: {1: lambda: 0}"
        child, session = self.start(body, environment=self.CHECKING)
        self.give(session, {"a": 1}, 2)
        session.expect(ACK)
        self.assertEqual(child.wait(30), 3)

    def test_its_listener_is_one_that_nobody_knows(self):
        code = (
            "from aeterna import AeternaClient\nclient = AeternaClient()\n"
            "print(client.get_listener_socket().getsockname()[0], flush=True)\nclient.load_context()"
        )
        child = self.aether.spawn(code, environment={**self.CHECKING, "PORT": "80"})
        session = self.aether.accept("waiting")
        session.expect(LOAD)
        self.assertEqual(self.line(child), "127.0.0.1")

    def test_a_trial_export_leaves_the_program_at_work(self):
        child, session = self.start(
            "version=3",
            "import time\n"
            "print('ready', flush=True)\n"
            "while client._relay.gate.state == 'open': time.sleep(0)\n"
            "with client.turn(): print('worked', flush=True)\n",
            memory="none",
        )
        session.send(ACK, {"of": "load", "memory": "none"})
        self.line(child)
        self.line(child)
        for _ in range(3):
            session.send(EXPORT, {"mechanism": "pipe", "deadline_ms": 5000, "trial": True})
            self.assertEqual(session.expect(CHECKPOINT)[0]["state_version"], 3)
            self.assertEqual(session.take_state(STATE_JSON)[0], b"{}")
            session.send(RESUME, {"memory": "own"})
            self.assertEqual(session.expect(ACK)[0], {"of": "resume"})
        session.ask_export()  # the trials have changed nothing: this one is real
        session.expect(CHECKPOINT)
        session.take_state()
        session.send(RESUME, {"memory": "own"})
        session.expect(ACK)

    def test_a_trial_export_does_not_seal_a_buffer(self):
        child, session = self.start(
            "",
            "import aeterna\n"
            "buffer = aeterna.Buffer(4096)\n"
            "client.save_context(buffer)\n"
            "print('set', flush=True)\n"
            "sys.stdin.read()\n",
            memory="none",
        )
        session.send(ACK, {"of": "load", "memory": "none"})
        self.line(child)
        self.line(child)
        session.send(EXPORT, {"mechanism": "shm", "deadline_ms": 5000, "trial": True})
        session.expect(CHECKPOINT)
        about, _, fd = session.expect(fake.STATE_FD)
        self.assertEqual(about["size"], 4096)
        os.close(fd)
        with open("/proc/%d/maps" % child.pid) as maps:
            self.assertRegex(maps.read(), "rw-s .*aeterna-buffer")


if __name__ == "__main__":
    unittest.main()
