# SPDX-License-Identifier: Apache-2.0
"""ctx: what the code of an agent may ask for. Each of these is recorded, and given back when the code runs again.

The rules are written once, as generators that yield what they need (messages to Aether, a function to be called, a
pause); Context performs it in a thread, AsyncContext (branches.py) in a loop."""

import json
import random
import time
import uuid
from datetime import datetime, timezone

from .code import Tool, inside_step


class GiveBack(BaseException):
    """The run is not this worker's any more: the code is left where it is. Not an Exception, for it is no failure."""

    def __init__(self, why, detail=""):
        super().__init__(f"{why}: {detail}" if detail else why)
        self.why, self.detail = why, detail


class StepFailed(Exception):
    """A step has failed, and will fail the same way whenever this run's code runs again."""

    def __init__(self, path, message):
        super().__init__(f"{path}: {message}")
        self.path, self.message = path, message


class NotExecuted(Exception):
    """Raise it in a step when nothing was sent: it may be tried again, whatever its policy."""


class Retryable(Exception):
    """Raise it in a step that failed and may be tried again, if its policy is read or keyed."""


class Unknown(Exception):
    """Raise it in a step when nobody knows whether it happened: a person is asked."""


class TimedOut(Exception):
    """Nothing came within the time that was given."""


class Decision:
    """What a person said. True if it was yes."""

    def __init__(self, result):
        self.end, self.by, self.form = result["end"], result.get("by") or "", result.get("payload")

    @property
    def approved(self):
        return self.end == "approved"

    @property
    def timed_out(self):
        return self.end == "timed_out"

    def __bool__(self):
        return self.approved

    def __repr__(self):
        return f"Decision({self.end!r}, by={self.by!r})"


NUMBER_MAX = 2**53  # whole numbers beyond it are other numbers elsewhere
BYTES_MAX = 500_000  # of one value: a frame has 1 MiB, and may have the end of a step and the next one's arguments
DEPTH_MAX = 50  # of one value: Aether reads 60 levels
PATH_MAX = 180  # bytes; the protocol has 200, and `.2` may follow


def _whole_number(text):
    number = int(text)
    if abs(number) > NUMBER_MAX:
        raise ValueError(f"{text} is beyond 2^53: give it as a text")
    return number


def _depth(value, most=DEPTH_MAX):
    if most < 0 or not isinstance(value, (dict, list, tuple)):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max((_depth(one, most - 1) for one in inner), default=0)


_encode = json.JSONEncoder(allow_nan=False, ensure_ascii=False).encode
_decode = json.JSONDecoder(parse_int=_whole_number).decode


def as_recorded(value):
    """As it is after a crash: tuples are lists, keys are texts. ValueError or TypeError: Aether would not take it."""
    try:
        text = _encode(value)
    except RecursionError as error:
        raise ValueError(f"it has more than {DEPTH_MAX} levels") from error
    size = len(text.encode())  # halves of surrogate pairs are no text anywhere else
    if size > BYTES_MAX:
        raise ValueError(f"it has {size} bytes, and {BYTES_MAX} is the most: keep it elsewhere, and give its place")
    if text.count("[") + text.count("{") > DEPTH_MAX and _depth(value) > DEPTH_MAX:
        raise ValueError(f"it has more than {DEPTH_MAX} levels")
    return _decode(text)


def words_of(error):
    """Of an exception, for people."""
    return f"{type(error).__name__}: {error}"[:2000].encode("utf-8", "replace").decode()


def milliseconds(seconds):
    return None if seconds is None else max(0, round(seconds * 1000))


class Ask:
    def __init__(self, *messages):
        self.messages = [{k: v for k, v in message.items() if v is not None} for message in messages]


class Perform:
    def __init__(self, function, args, kwargs, key):
        self.function, self.args, self.kwargs, self.key = function, args, kwargs, key


class Pause:
    def __init__(self, seconds):
        self.seconds = seconds


class Rules:
    """What both kinds of context share."""

    def __init__(self, held):
        self.held = held  # Held: the run, and how to ask about it
        self.job_id, self.agent, self.input = held.run, held.agent, held.input
        self._names = {}

    # ---- names

    def _path(self, name):
        name = "".join("-" if c in "/~#\x7f" or ord(c) < 32 else c for c in str(name))
        name = name.encode("utf-8", "replace")[:PATH_MAX].decode("utf-8", "ignore") or "step"
        while True:
            count = self._names[name] = self._names.get(name, 0) + 1
            path = name if count == 1 else f"{name}.{count}"
            if count == 1 or path not in self._names:
                if path != name:
                    self._names[path] = 1
                return path

    # ---- what is asked

    @staticmethod
    def _given(path, answer):
        if answer["outcome"] == "failed":
            raise StepFailed(path, answer.get("error") or "failed")
        return answer.get("result")

    def _step(self, function, args, kwargs, name, policy, business_key, attempts, pause):
        made = function if isinstance(function, Tool) else None
        policy = policy or (made.policy if made else "once")
        attempts = attempts or (made.attempts if made else 1)
        pause = pause if pause is not None else (made.pause if made else 1.0)
        code = made.function if made else function
        tool = (made.name if made else None) or name or getattr(function, "__name__", "step")
        path = self._path(name or tool)
        given = as_recorded({"args": list(args), **({"kwargs": kwargs} if kwargs else {})})
        begin = {"do": "step.begin", "path": path, "tool": tool, "args": given, "policy": policy,
                 "business_key": business_key, "strict": self._strict()}  # fmt: skip
        tried = 0
        while True:
            (answer,) = yield Ask(begin)
            if answer["is"] == "recorded":
                return self._given(path, answer)
            tried += 1
            result, raised = yield Perform(code, args, kwargs, answer.get("key"))
            end = {"do": "step.end", "path": path}
            if policy == "pure":
                end.update(tool=tool, args=given, policy="pure", strict=begin["strict"])
            else:
                end.update(effect=answer["effect"], turn=answer["turn"], token=answer["token"])
            again = False
            if raised is None:
                try:
                    end.update(outcome="ok", result=as_recorded(result))
                except (TypeError, ValueError) as error:
                    # Failed, whenever the code runs again: else it would be given another result then.
                    raised = StepFailed(path, f"it was done, and its result cannot be recorded: {error}")
                    end.update(outcome="error", error=raised.message)
            else:
                may = policy in ("read", "keyed") or isinstance(raised, NotExecuted)
                again = may and tried < attempts and policy != "pure"
                outcome = {NotExecuted: "not_executed", Unknown: "unknown"}.get(type(raised), "error")
                end.update(outcome="error" if policy == "pure" else outcome, again=again or None,
                           retryable=(again or isinstance(raised, Retryable)) or None,
                           error=words_of(raised))  # fmt: skip
            yield Ask(end)
            if raised is None:
                return end["result"]
            if not again:
                if isinstance(raised, StepFailed):
                    raise raised
                raise StepFailed(path, end["error"]) from raised
            yield Pause(min(pause * 2 ** (tried - 1), 60))

    def _call(self, tool, args, name, policy, business_key, timeout, attempts, pause, kind=None):
        path = self._path(name or tool)
        message = {"do": "call", "path": path, "tool": tool, "args": as_recorded(args), "policy": policy,
                   "business_key": business_key, "timeout_ms": milliseconds(timeout), "attempts": attempts,
                   "pause_ms": milliseconds(pause), "kind": kind, "strict": self._strict()}  # fmt: skip
        while True:
            (answer,) = yield Ask(message)
            if answer["is"] == "recorded":
                return self._given(path, answer)

    def _llm(self, prompt, messages, model, full, name, options):
        args = dict(options)
        if messages is not None:
            args["messages"] = messages
        else:
            args["prompt"] = prompt
        if model is not None:
            args["model"] = model
        policy, timeout = args.pop("policy", None), args.pop("timeout", None)
        result = yield from self._call("llm", args, name or "llm", policy, None, timeout, 1, 1, "model")
        return result if full or not isinstance(result, dict) else result.get("content")

    def _wait(self, kind, name, path, timeout=None, schema=None, job=None):
        path = self._path(path)
        message = {"do": "wait", "path": path, "for": kind, "name": name, "after_ms": milliseconds(timeout),
                   "schema": schema, "job": job, "strict": self._strict()}  # fmt: skip
        while True:
            message["give_back"] = self._may_give_back()
            (answer,) = yield Ask(message)
            if answer["is"] == "recorded":
                return self._given(path, answer)
            yield Pause(0.05)

    def _value(self, name, make):
        path = self._path(name)
        (answer,) = yield Ask({"do": "step.begin", "path": path, "tool": name, "policy": "pure",
                               "strict": self._strict()})  # fmt: skip
        if answer["is"] == "recorded":
            return self._given(path, answer)
        value = make()
        yield Ask({"do": "step.end", "path": path, "tool": name, "policy": "pure", "outcome": "ok",
                   "result": value, "strict": self._strict()})  # fmt: skip
        return value

    def _signal(self, name, timeout):
        result = yield from self._wait("signal", name, name, timeout)
        if result["end"] == "timed_out":
            raise TimedOut(f"no signal {name} came within {timeout} s")
        return result.get("payload")

    def _approve(self, message, form, timeout, name):
        result = yield from self._wait("human", message, name, timeout, form)
        return Decision(result)

    def _run(self, agent, given, name, job):
        body = dict(job or {})
        if agent is not None:
            body.update(agent=agent, input=as_recorded(given))
        result = yield from self._wait("child", "", name or agent or "job", job=body)
        child = result.get("payload") or {}
        if child.get("outcome") != "succeeded":
            raise StepFailed(name or agent or "job", child.get("error") or child.get("outcome") or result["end"])
        return child.get("output")

    # ---- for people: the same words in both contexts; in an AsyncContext they are awaited

    def step(self, function, *args, name=None, policy=None, business_key=None, attempts=None, pause=None, **kwargs):
        """Calls the function once and records what it gave. `ctx.step("name", function, ...)` names it."""
        if isinstance(function, str):
            name, function, args = function, args[0], args[1:]
        return self._drive(self._step(function, args, kwargs, name, policy, business_key, attempts, pause))

    def call(self, tool, args=None, *, name=None, policy=None, business_key=None, timeout=None, attempts=1, pause=1.0):
        """Has Aether call one of its own tools: http, llm, a function, what `tools:` names."""
        return self._drive(self._call(tool, args or {}, name, policy, business_key, timeout, attempts, pause))

    def llm(self, prompt=None, *, messages=None, model=None, full=False, name=None, **options):
        """The words of a model; `full` gives all of its answer. Without `model` the built-in one is asked."""
        return self._drive(self._llm(prompt, messages, model, full, name, options))

    def approve(self, message, form=None, *, timeout=None, name="approve"):
        """Asks a person: `aether jobs approve`. The job holds nothing while it waits."""
        return self._drive(self._approve(message, form, timeout, name))

    def wait(self, signal, *, timeout=None):
        """The payload of the signal, which may have come before. TimedOut after so many seconds."""
        return self._drive(self._signal(signal, timeout))

    def sleep(self, seconds):
        return self._drive(self._wait("timer", "", "sleep", seconds))

    def run(self, agent, given=None, *, name=None, job=None):
        """Another job below this one; its output. `job`: a whole body of POST /v1/jobs."""
        return self._drive(self._run(agent, given, name, job))

    def now(self):
        return self._drive(self._now())

    def _now(self):
        seconds = yield from self._value("now", time.time)
        return datetime.fromtimestamp(seconds, timezone.utc)

    def uuid(self):
        return self._drive(self._value("uuid", lambda: str(uuid.uuid4())))

    def random(self):
        return self._drive(self._value("random", random.random))


class Context(Rules):
    """Of an agent that is a plain function: one thing after the other, in a thread."""

    def _strict(self):
        return True

    def _may_give_back(self):
        return True

    def _drive(self, rules):
        given, raised = None, None
        while True:
            try:
                wanted = rules.throw(raised) if raised else rules.send(given)
            except StopIteration as done:
                return done.value
            given, raised = None, None
            try:
                given = self._do(wanted)
            except GiveBack as back:
                raised = back

    def _do(self, wanted):
        if isinstance(wanted, Ask):
            return self.held.ask(wanted.messages)
        if isinstance(wanted, Pause):
            return self.held.pause(wanted.seconds)
        with self.held.calling(), inside_step(wanted.key):
            try:
                return wanted.function(*wanted.args, **wanted.kwargs), None
            except Exception as error:  # noqa: BLE001
                return None, error
