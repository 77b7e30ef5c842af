# SPDX-License-Identifier: Apache-2.0
"""serve(): claims the jobs of this program's agents and runs their code, until it is told to stop."""

import asyncio
import collections
import contextlib
import logging
import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from .branches import AsyncContext, Loop
from .carrier import VERSION, Gone, Refused, carrier_of
from .code import AGENTS, current
from .context import Context, GiveBack, as_recorded, words_of
from .held import BEATS, SOON, AsyncHeld, Held

log = logging.getLogger("aetheris")

WAIT = 20_000  # milliseconds that a claim waits for work
AT_ONCE = 8
CLAIMED_MAX = 64  # runs in one answer
IDLE = 25  # times SOON, after which nobody looks for ends of steps any more
THREADS_MIN = 32  # for what coroutines ask, and the plain functions that they call


class Worker:
    """Runs the code of `agents` (all that @agent made) for an Aether, so many jobs `at_once`."""

    def __init__(self, agents=None, url=None, token=None, name=None, at_once=AT_ONCE):
        self.agents = {one.name: one for one in (agents or AGENTS.values())}
        if not self.agents:
            raise ValueError("there is no agent: write @agent above a function")
        self.carrier = carrier_of(url, token)
        self.name = name or f"{socket.gethostname()}:{os.getpid()}"
        self.stopping = threading.Event()
        self.threads = None  # of the loop
        self._at_once = at_once
        self._room = threading.Semaphore(at_once)
        self._held = {}
        self._loop = None
        self._begun = threading.Event()
        self._pause = 1.0  # of the beats
        self._lock = threading.Lock()
        self._late = collections.deque()  # runs with an end that was not said at once
        self._is_late = threading.Event()

    def stop(self, *_):
        """Claims nothing more; what is in the middle of a step ends it, and the rest goes to another worker."""
        self.stopping.set()

    def run(self):
        """Until stop(), or until Aether has gone for good."""
        threading.Thread(target=self._beat, name="aetheris beats", daemon=True).start()
        threading.Thread(target=self._claim, name="aetheris claims", daemon=True).start()
        threading.Thread(target=self._say_ends, name="aetheris ends", daemon=True).start()
        while not self.stopping.wait(1.0):
            pass
        self._leave()

    def _claim(self):
        body = {"v": VERSION, "do": "claim", "worker": self.name, "agents": sorted(self.agents), "wait_ms": WAIT}
        while not self.stopping.is_set():
            self._room.acquire()
            more = 1
            while more < min(self._at_once, CLAIMED_MAX) and self._room.acquire(blocking=False):
                more += 1
            claimed, since = [], time.monotonic()
            try:
                claimed = self.carrier.claim({**body, "runs": more})
            except Refused as refused:
                log.error("aetheris: %s", refused)
                self.stopping.wait(5.0)
            except Gone as gone:
                if hasattr(self.carrier, "_gone"):
                    return self.stop()
                log.warning("aetheris: %s; trying again", gone)
                self.stopping.wait(0.2)
            for _ in range(more - len(claimed)):
                self._room.release()
            for one in claimed:
                self._begin(one)
            if not claimed and time.monotonic() - since < 1.0:
                self.stopping.wait(0.2)  # Aether does not let us wait: it is about to stop

    def _begin(self, claimed):
        if self.agents[claimed["agent"]].is_async:
            loop = self._event_loop()
            held = self._note(AsyncHeld(self, claimed, loop))
            asyncio.run_coroutine_threadsafe(self._run_async(held), loop)
        else:
            held = self._note(Held(self, claimed))
            threading.Thread(target=self._run, args=(held,), name=f"aetheris {held.run}", daemon=True).start()

    def _note(self, held):
        self._held[held.token] = held
        if held.lease / BEATS < self._pause:
            self._begun.set()
        return held

    def _event_loop(self):
        with self._lock:
            if self._loop is None:
                self.threads = ThreadPoolExecutor(max(THREADS_MIN, 4 * self._at_once), "aetheris step")
                self._loop = Loop()
                self._loop.set_default_executor(self.threads)
                threading.Thread(target=self._loop.run_forever, name="aetheris loop", daemon=True).start()
            return self._loop

    def _run(self, held):
        context = Context(held)
        token = current.set(context)
        try:
            held.ask([self._closing(self.agents[held.agent](context, held.input))])
        except GiveBack as back:
            self._gone_from(held, back)
        except BaseException as error:  # noqa: BLE001
            self._fail(held, error)
        finally:
            current.reset(token)
            self._end(held)

    async def _run_async(self, held):
        held.enter()
        leaving = asyncio.ensure_future(held.gone.wait())
        context = AsyncContext(held)
        current.set(context)
        task = asyncio.ensure_future(self.agents[held.agent](context, held.input))
        try:
            await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, GiveBack, Exception):
                    await task
                raise held.back
            context.ends()
            await held.ask_async([self._closing(task.result())])
        except GiveBack as back:
            self._gone_from(held, back)
        except BaseException as error:  # noqa: BLE001
            await held.in_thread(self._fail, held, error)
        finally:
            leaving.cancel()
            context.leave()
            await held.in_thread(self._end, held)

    @staticmethod
    def _closing(output):
        return {"do": "close", "outcome": "succeeded", "output": as_recorded(output)}

    def _fail(self, held, error):
        log.warning("aetheris: %s fails: %s: %s", held.run, type(error).__name__, error)
        with contextlib.suppress(GiveBack, Refused):
            held.ask([{"do": "close", "outcome": "failed", "error": words_of(error)}])

    @staticmethod
    def _gone_from(held, back):
        if back.why in ("stuck", "lost"):
            log.warning("aetheris: %s goes from this worker: %s", held.run, back)

    def _end(self, held):
        if held.ends_due() is not None:
            held.say_ends()
        self._held.pop(held.token, None)
        self._room.release()
        self.carrier.rest()

    def _beat(self):
        while not (self.stopping.is_set() and not self._held):
            held = list(self._held.values())
            self._pause = min([one.lease / BEATS for one in held] or [1.0])
            self._begun.wait(self._pause)
            self._begun.clear()
            for one in held:
                one.beat()

    def will_say_ends(self, held):
        """By a thread of their own, unless the code asks something before that."""
        self._late.append(held)
        if not self._is_late.is_set():
            self._is_late.set()

    def _say_ends(self):
        """While steps end one after the other it looks now and then, for waking it each time would cost them more."""
        while self._is_late.wait():
            idle = 0
            while idle < IDLE:
                time.sleep(SOON)
                idle = 0 if self._say_late() else idle + 1
            self._is_late.clear()
            if self._late:
                self._is_late.set()

    def _say_late(self):
        """Whether there was something to look at."""
        late = len(self._late)
        for _ in range(late):
            held = self._late.popleft()
            due = held.ends_due()
            if due is None:
                continue
            if due <= time.monotonic():
                threading.Thread(target=held.say_ends, name=f"aetheris {held.run} end", daemon=True).start()
            else:
                self._late.append(held)
        return late > 0

    def _leave(self, patience=8.0):
        """Steps that are in the middle may end; all else is given back now."""
        step = threading.Event()
        for _ in range(int(patience / 0.05)):
            for one in list(self._held.values()):
                with contextlib.suppress(GiveBack):
                    one.check()
            if not self._held:
                break
            step.wait(0.05)
        self.carrier.close()


def ready():
    """Says READY=1 to whoever supervises (sd_notify). Aether sees by the first claim that its agents are ready."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path or "AETHER_WORK_FD" in os.environ:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.connect("\0" + path[1:] if path.startswith("@") else path)
        notify.sendall(b"READY=1")


def serve(*agents, url=None, token=None, name=None, at_once=AT_ONCE):
    """Runs this program's agents until SIGTERM or SIGINT. Under Aether nothing needs to be said; elsewhere `url` (or
    $AETHER_URL) is Aether's, `unix:/path` for a control socket, and `token` (or $AETHER_TOKEN) one of role worker."""
    logging.basicConfig(level=os.environ.get("AETHERIS_LOG", "WARNING"), format="%(message)s")
    worker = Worker(agents or None, url, token, name, at_once)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, worker.stop)
    ready()
    worker.run()
