# SPDX-License-Identifier: Apache-2.0
"""serve(): claims the jobs of this program's agents and runs their code, until it is told to stop."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading

from .carrier import VERSION, Gone, Refused, carrier_of
from .code import AGENTS, current
from .context import AsyncContext, Context, GiveBack

log = logging.getLogger("aetheris")

WAIT = 20_000  # milliseconds that a claim waits for work
AT_ONCE = 8


class Held:
    """A run that this worker holds."""

    def __init__(self, worker, claimed):
        self.worker, self.carrier = worker, worker.carrier
        self.run, self.token, self.agent = claimed["run"], claimed["token"], claimed["agent"]
        self.input, self.lease = claimed["input"], claimed["lease_ms"] / 1000
        self.back = None  # GiveBack, once it is not ours any more
        self.inside = 0  # functions of its steps that run right now
        self.left = threading.Event()
        self._posted = []  # ends of steps whose answers are not looked at yet

    def check(self):
        if self.back is None and self.worker.stopping.is_set() and self.inside == 0:
            self.say([{"do": "release", "why": "the worker stops"}])
        if self.back is not None:
            raise GiveBack(self.back.why, self.back.detail)

    def say(self, messages):
        """The answers; what is given back is noted, and raised by whoever asks."""
        frame = {"v": VERSION, "run": self.run, "token": self.token, "messages": messages}
        return self._take(lambda: self.carrier.frame(frame), len(messages))

    def _take(self, answering, count):
        try:
            answers = answering()
        except Gone as gone:
            self.give_back("lost", str(gone))
            return [{"is": "give_back", "why": "lost"}] * count
        for answer in answers:
            if answer["is"] == "give_back":
                self.give_back(answer["why"], answer.get("detail", ""))
        return answers

    def give_back(self, why, detail):
        if self.back is None:
            self.back = GiveBack(why, detail)
            self.left.set()

    def ask(self, messages):
        ends = messages[0]["do"] == "step.end"
        if ends and messages[0]["outcome"] == "ok" and hasattr(self.carrier, "post"):
            return self._post(messages)
        if not ends:
            self.check()
        answers = self.say(messages)
        posted, self._posted = self._posted, []
        for answer in [each for answering in posted for each in self._take(answering, 1)] + answers[:1]:
            if answer["is"] == "refused":
                raise Refused("refused", answer["detail"])
        if self.back is not None:
            raise GiveBack(self.back.why, self.back.detail)
        return answers

    def _post(self, messages):
        """The end of a step goes ahead: whatever is asked next is answered when this is recorded as well."""
        try:
            frame = {"v": VERSION, "run": self.run, "token": self.token, "messages": messages}
            self._posted.append(self.carrier.post(frame))
        except Gone as gone:
            self.give_back("lost", str(gone))
            raise GiveBack("lost", str(gone)) from gone
        return [{"is": "done"}]

    async def ask_async(self, messages):
        return await asyncio.to_thread(self.ask, messages)

    def pause(self, seconds):
        self.left.wait(seconds)
        self.check()

    @contextlib.contextmanager
    def calling(self):
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1


class Worker:
    """Runs the code of `agents` (all that @agent made) for an Aether, so many jobs `at_once`."""

    def __init__(self, agents=None, url=None, token=None, name=None, at_once=AT_ONCE):
        self.agents = {one.name: one for one in (agents or AGENTS.values())}
        if not self.agents:
            raise ValueError("there is no agent: write @agent above a function")
        self.carrier = carrier_of(url, token)
        self.name = name or f"{socket.gethostname()}:{os.getpid()}"
        self.stopping = threading.Event()
        self._room = threading.Semaphore(at_once)
        self._held = {}
        self._loop = None
        self._begun = threading.Event()
        self._lock = threading.Lock()

    def stop(self, *_):
        """Claims nothing more; what is in the middle of a step ends it, and the rest goes to another worker."""
        self.stopping.set()

    def run(self):
        """Until stop(), or until Aether has gone for good."""
        threading.Thread(target=self._beat, name="aetheris beats", daemon=True).start()
        threading.Thread(target=self._claim, name="aetheris claims", daemon=True).start()
        while not self.stopping.wait(1.0):
            pass
        self._leave()

    def _claim(self):
        body = {"v": VERSION, "do": "claim", "worker": self.name, "agents": sorted(self.agents), "wait_ms": WAIT}
        while not self.stopping.is_set():
            self._room.acquire()
            more = 1
            while more < AT_ONCE and self._room.acquire(blocking=False):
                more += 1
            claimed = []
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
                self._begin(Held(self, one))

    def _begin(self, held):
        self._held[held.token] = held
        self._begun.set()  # its lease may be shorter than the pause of the beats
        if self.agents[held.agent].is_async:
            asyncio.run_coroutine_threadsafe(self._run_async(held), self._event_loop())
        else:
            threading.Thread(target=self._run, args=(held,), name=f"aetheris {held.run}", daemon=True).start()

    def _event_loop(self):
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="aetheris loop", daemon=True).start()
            return self._loop

    def _run(self, held):
        context = Context(held)
        token = current.set(context)
        try:
            held.ask([self._closing(held, self.agents[held.agent](context, held.input))])
        except GiveBack as back:
            self._gone_from(held, back)
        except Exception as error:  # noqa: BLE001
            self._fail(held, error)
        finally:
            current.reset(token)
            self._end(held)

    async def _run_async(self, held):
        context = AsyncContext(held)
        current.set(context)
        task = asyncio.ensure_future(self.agents[held.agent](context, held.input))
        leaving = asyncio.ensure_future(asyncio.to_thread(held.left.wait))
        try:
            await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, GiveBack, Exception):
                    await task
                raise held.back
            await held.ask_async([self._closing(held, task.result())])
        except GiveBack as back:
            self._gone_from(held, back)
        except BaseException as error:  # noqa: BLE001
            await asyncio.to_thread(self._fail, held, error)
        finally:
            held.left.set()
            self._end(held)

    @staticmethod
    def _closing(held, output):
        held.check()
        return {"do": "close", "outcome": "succeeded", "output": output}

    def _fail(self, held, error):
        log.warning("aetheris: %s fails: %s: %s", held.run, type(error).__name__, error)
        with contextlib.suppress(GiveBack, Refused):
            text = f"{type(error).__name__}: {error}"[:2000]
            held.ask([{"do": "close", "outcome": "failed", "error": text}])

    @staticmethod
    def _gone_from(held, back):
        if back.why in ("stuck", "lost"):
            log.warning("aetheris: %s goes from this worker: %s", held.run, back)

    def _end(self, held):
        self._held.pop(held.token, None)
        self._room.release()

    def _beat(self):
        while not (self.stopping.is_set() and not self._held):
            held = list(self._held.values())
            self._begun.wait(min([one.lease / 4 for one in held] or [1.0]))
            self._begun.clear()
            for one in held:
                if one.back is None:
                    with contextlib.suppress(Refused):
                        one.say([{"do": "beat"}])

    def _leave(self, patience=8.0):
        """Steps that are in the middle may end; all else is given back now."""
        for one in list(self._held.values()):
            if one.inside == 0 and one.back is None:
                with contextlib.suppress(Refused):
                    one.say([{"do": "release", "why": "the worker stops"}])
        step = threading.Event()
        for _ in range(int(patience / 0.05)):
            if not self._held:
                break
            step.wait(0.05)
        self.carrier.close()


def ready():
    """Says READY=1 to whoever supervises (sd_notify)."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
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
