# SPDX-License-Identifier: Apache-2.0
"""Line: the rings that Aether has given to this process, and the pipes by which the two sides wake each other."""

import os
import platform
import select
import signal

from . import exchange, hooks
from .ring import Poisoned, Reader, Region, Writer

class Closed(Exception):
    """Aether is gone, or has given this process up."""


class Line:
    """Not for several threads at once."""

    def __init__(self):
        places = os.environ.get("AETHER_RING", "")
        try:
            self.memory, self.wake, self.bell = (int(place) for place in places.split(","))
        except ValueError:
            raise RuntimeError(
                "AETHER_RING does not name three descriptors (%r): is this a function with `ipc: ring`?" % places
            ) from None
        for fd in (self.memory, self.wake, self.bell):
            os.set_inheritable(fd, False)
        os.set_blocking(self.wake, False)
        os.set_blocking(self.bell, False)
        self.region = None
        self.inode = None
        self.exchange = None
        self.poll = select.poll()
        self.poll.register(self.wake, select.POLLIN)
        self.signals = None
        hooks.register_before_snapshot(self.detach)

    def hear_signals(self):
        """Lets a signal end a wait. Python runs its handlers when poll() has ended, which a signal does not do that
        comes just before it begins: as in a copy, which is let go in front of the call that it was frozen in."""
        reads, writes = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        before = signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
        if before != -1:  # The program's own is left alone
            signal.set_wakeup_fd(before)
            os.close(reads)
            os.close(writes)
            return
        self.signals = reads
        self.poll.register(reads, select.POLLIN)

    def attach(self):
        """Once at the start, and in each copy, which finds other memory behind the same descriptor."""
        self.region = Region(self.memory)
        self.inode = os.fstat(self.memory).st_ino
        self.reader = Reader(self.region, 0)
        self.writer = Writer(self.region, 1)
        self.exchange = exchange.Exchange(self.writer.payload_max)
        self.exchange.outbox.append(exchange.hello("python " + platform.python_version()))
        self.flush()

    def detach(self):
        """Copies get rings of their own: the memory of the original's is nothing to copy."""
        if self.region is not None:
            self.reader.close()
            self.writer.close()
            self.reader = self.writer = None
            self.region.close()
            self.region = None

    def freshen(self):
        """After a wait, in which this process may have become a copy."""
        if self.region is None or os.fstat(self.memory).st_ino != self.inode:
            self.detach()
            self.attach()

    def receive(self, most=256):
        """The calls that something has come for. At most so many records, then others have their turn."""
        calls = []
        if self.region is None:
            return calls  # Between the snapshot and the first wake-up
        try:
            for _ in range(most):
                record = self.reader.read()
                if record is None:
                    break
                call = self.exchange.take(record)
                if call is not None:
                    calls.append(call)
        except (Poisoned, exchange.Nonsense) as error:
            raise Closed(str(error)) from error
        finally:
            if self.reader.release():
                self.ring()
        return calls

    def flush(self):
        """Writes what goes; True if all did."""
        outbox, asked = self.exchange.outbox, False
        if self.region is None:
            return not outbox
        while outbox and self.writer.write(outbox[0]):
            outbox.popleft()
            asked = True
        if asked and self.writer.is_awaited():
            self.ring()
        return not outbox

    def ring(self):
        """Wakes Aether."""
        try:
            os.write(self.bell, b"\1")
        except BlockingIOError:
            pass  # It has been woken often enough
        except OSError as error:
            raise Closed(str(error)) from error

    def must_wait(self):
        """Asks to be woken. False: something has come meanwhile."""
        return self.region is None or self.reader.sleep()

    def heard(self):
        """Empties the pipes. Closed at the end of Aether's."""
        if self.signals is not None:
            try:
                os.read(self.signals, 4096)
            except BlockingIOError:
                pass
        try:
            if os.read(self.wake, 4096) == b"":
                raise Closed("Aether has closed the ring")
        except BlockingIOError:
            pass
        self.freshen()

    def wait(self):
        """Until something has come, or may be written."""
        if self.must_wait():
            self.poll.poll()
            self.heard()
        elif self.region is None:
            self.freshen()
        self.flush()
