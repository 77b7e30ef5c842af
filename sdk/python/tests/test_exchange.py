# SPDX-License-Identifier: Apache-2.0
"""What a handler with `ipc: ring` and Aether say to each other, and what requests and answers are made of."""

import struct
import unittest

from aetherless import exchange, message
from aetherless.exchange import ANSWER, BODY, CANCEL, FAILURE, REQUEST, WINDOW, WINDOW_KIND, Exchange, Gone, write


def parts(record):
    call, kind, flags, reserved = struct.unpack_from("<IBBH", record)
    assert reserved == 0
    return kind, flags, record[8:]


class ExchangeTest(unittest.TestCase):
    def begun(self, content=b"GET / HTTP/1.1\r\n\r\n", size=exchange.MESSAGE_MAX, end=True):
        made = Exchange(size)
        return made, made.take(write(1, REQUEST, content, end=end))

    def test_the_head_of_a_request_may_come_in_pieces(self):
        made = Exchange()
        self.assertIsNone(made.take(write(1, REQUEST, b"GET /x HTTP/1.1\r\nA: b\r", more=True)))
        call = made.take(write(1, REQUEST, b"\n\r\nbo"))
        self.assertEqual(call.head, b"GET /x HTTP/1.1\r\nA: b")
        self.assertEqual(made.read(call), b"bo")
        self.assertIsNone(made.read(call))
        made.take(write(1, BODY, b"dy", end=True))
        self.assertEqual((made.read(call), made.read(call)), (b"dy", b""))

    def test_what_was_read_is_granted_again_by_halves(self):
        made, call = self.begun(end=False)
        for _ in range(2):
            made.take(write(1, BODY, b"x" * (WINDOW // 4)))
            made.take(write(1, BODY, b"x" * (WINDOW // 4)))
            made.read(call)
            self.assertFalse(made.outbox)
            made.read(call)
            self.assertEqual(parts(made.outbox.popleft()), (WINDOW_KIND, 0, struct.pack("<I", WINDOW // 2)))

    def test_an_answer_goes_in_one_message_or_in_as_many_as_it_takes(self):
        made, call = self.begun(size=32)
        made.begin_answer(call, b"HTTP/1.1 200 OK\r\n\r\n", b"hi", True)
        self.assertEqual([parts(one) for one in made.outbox], [(ANSWER, 1, b"HTTP/1.1 200 OK\r\n\r\nhi")])
        for size in range(40, 120):
            made, call = self.begun(size=32)
            head = b"HTTP/1.1 200 OK\r\n" + b"x" * (size - 21) + b"\r\n\r\n"
            made.begin_answer(call, head, b"body", True)
            found = [parts(one) for one in made.outbox]
            self.assertEqual(b"".join(one[2] for one in found), head + b"body")
            self.assertEqual(found[-1][1], 1)
            seen = b""
            for kind, flags, content in found:
                seen += content if kind == ANSWER else b""
                self.assertEqual(flags == 2, kind == ANSWER and b"\r\n\r\n" not in seen)

    def test_a_body_keeps_to_what_was_granted(self):
        made, call = self.begun()
        made.begin_answer(call, b"HTTP/1.1 200 OK\r\n\r\n", b"", False)
        self.assertEqual(made.send(call, b"x" * 100_000, True), WINDOW)
        self.assertEqual(made.send(call, b"x", True), 0)
        made.take(write(1, WINDOW_KIND, struct.pack("<I", 5)))
        self.assertEqual(made.send(call, b"xxxxx", True), 5)
        self.assertEqual(parts(made.outbox[-1])[:2], (BODY, 1))

    def test_a_cancelled_call_is_gone_and_what_comes_for_it_later_is_nothing(self):
        made, call = self.begun(end=False)
        made.take(write(1, CANCEL))
        for asks in (lambda: made.read(call), lambda: made.send(call, b"x")):
            with self.assertRaises(Gone):
                asks()
        made.fail(call, "late")
        self.assertFalse(made.outbox)
        self.assertIsNone(made.take(write(1, BODY, b"late")))

    def test_a_failure_is_told_once(self):
        made, call = self.begun()
        made.fail(call, "why")
        self.assertEqual([parts(one) for one in made.outbox], [(FAILURE, 0, b"why")])

    def test_nonsense_is_refused(self):
        for record in (b"", b"1234567", write(1, REQUEST, b"no end"), write(1, 3, b"")):
            made, _ = self.begun()
            with self.assertRaises(exchange.Nonsense):
                made.take(record if len(record) < 9 or record[4] != REQUEST else b"\2" + record[1:])


class MessageTest(unittest.TestCase):
    def test_a_request_has_its_parts(self):
        request = message.Request(b"GET /a?b=c HTTP/1.1\r\nHost: x\r\nA: 1\r\na: 2\r\nTransfer-Encoding: chunked")
        self.assertEqual((request.method, request.path, request.query), ("GET", "/a", "b=c"))
        self.assertEqual(request.headers["HOST"], "x")
        self.assertEqual(request.headers.get("a"), "1, 2")
        self.assertNotIn("transfer-encoding", request.headers)

    def test_what_a_handler_returns_becomes_a_response(self):
        self.assertEqual(message.response_of("x").status, 200)
        self.assertEqual(message.response_of(None).status, 204)
        self.assertEqual(message.response_of({"a": 1}).body, '{"a": 1}')

    def test_a_header_that_could_be_read_as_two_is_refused(self):
        for name, value in (("A", "b\r\nC: d"), ("A\n", "b"), ("", "b"), ("A:b", "c"), ("A", "\0")):
            with self.assertRaises(ValueError):
                message.head_of(message.Response(headers=[(name, value)]), 0)

    def test_a_head_says_how_long_its_body_is_if_that_is_known(self):
        self.assertIn(b"Content-Length: 5", message.head_of(message.Response(b"12345"), 5))
        self.assertNotIn(b"Content-Length", message.head_of(message.Response([]), None))
        self.assertNotIn(b"Content-Length", message.head_of(message.Response(status=304), 0))
        twice = message.head_of(message.Response(headers=[("Connection", "close"), ("Content-Length", "7")]), 7)
        self.assertEqual((twice.count(b"Content-Length"), twice.count(b"Connection")), (1, 0))


if __name__ == "__main__":
    unittest.main()
