# SPDX-License-Identifier: Apache-2.0
"""AetherisClient: submit jobs, look at them, answer them."""

import http.client
import json
import os
import time
import uuid
from enum import Enum


class AetherisError(Exception):
    """What this package raises."""


class Unreachable(AetherisError):
    """Nobody answers."""


class JobFailedError(AetherisError):
    """A job that was waited for has failed, or was cancelled."""

    def __init__(self, job_id, status, message=""):
        super().__init__(f"job {job_id} is {status}{': ' if message else ''}{message}")
        self.job_id, self.status = job_id, status


class TimeoutError(AetherisError):  # noqa: A001
    """A job has not ended in the time that was given."""


class JobStatus(str, Enum):
    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    WAITING = "waiting"  # for a person, a signal, a time or another job: it holds nothing
    RETRYING = "retrying"
    STUCK = "stuck"
    PAUSED = "paused"

    @classmethod
    def of(cls, word):
        return cls("waiting" if word == "parked" else word)


WAIT_MAX = 20  # seconds that Aether is asked to hold an answer until the job has ended
SILENCE_MAX = 30  # seconds that a job is waited for without an Aether: it may start again
ENDED = (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)


class Job:
    def __init__(self, client, told, agent_id="", goal=""):
        self._client = client
        self.id, self.agent_id, self.goal = told["id"], agent_id or told.get("name", ""), goal
        self._take(told)

    def _take(self, told):
        self.raw = told
        self.status = JobStatus.of(told.get("status", "pending"))
        self.output = told.get("output")
        self.error = told.get("error") or ""

    @property
    def is_terminal(self):
        return self.status in ENDED

    @property
    def is_waiting(self):
        return self.status is JobStatus.WAITING

    def refresh(self):
        return self._refresh(0)

    def _refresh(self, seconds):
        query = f"?wait={seconds}" if seconds > 0 else ""
        self._take(self._client._ask("GET", f"/v1/jobs/{self.id}{query}"))
        return self

    def wait(self, *, timeout=300.0, poll_interval=0.5):
        """Until the job has ended; itself, with its output. JobFailedError if it did not complete."""
        heard = time.monotonic()
        until, pause = heard + timeout, min(0.02, poll_interval)
        while True:
            begun = time.monotonic()
            asked = int(min(WAIT_MAX, self._client._timeout - 5, until - begun))
            try:
                self._refresh(asked)
                heard = time.monotonic()
            except Unreachable:
                if time.monotonic() - heard > SILENCE_MAX:
                    raise
            if self.is_terminal:
                break
            now = time.monotonic()
            if now >= until:
                raise TimeoutError(f"job {self.id} has not ended in {timeout} s: it is {self.status.value}")
            if now - begun < max(asked, 1) / 2:  # Aether did not let us wait
                time.sleep(min(pause, until - now))
                pause = min(pause * 1.5, poll_interval)
        if self.status is not JobStatus.COMPLETED:
            raise JobFailedError(self.id, self.status.value, self.error)
        return self

    def signal(self, payload, *, correlation_key=""):
        self._client.signal_job(self.id, payload, correlation_key=correlation_key)

    def __repr__(self):
        return f"Job({self.id}, {self.agent_id}, {self.status.value})"


class AetherisClient:
    """`base_url`: Aether's, or `unix:/path` of its control socket. `token`: one of `api.tokens`."""

    def __init__(self, base_url=None, *, token=None, timeout=30.0):
        self.base_url = base_url or os.environ.get("AETHER_URL") or "http://localhost:8080"
        self._token, self._timeout = token or os.environ.get("AETHER_TOKEN"), timeout

    def _ask(self, method, path, body=None, headers=()):
        from .carrier import connection_to

        connection = connection_to(self.base_url, self._timeout)
        fields = {"Content-Type": "application/json", **dict(headers)}
        if self._token:
            fields["Authorization"] = f"Bearer {self._token}"
        try:
            connection.request(method, path, None if body is None else json.dumps(body).encode(), fields)
            answer = connection.getresponse()
            text = answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{self.base_url} does not answer: {error!r}") from error
        finally:
            connection.close()
        told = json.loads(text) if "json" in (answer.headers.get("Content-Type") or "") else {"detail": text}
        if answer.status >= 400:
            raise AetherisError(f"{method} {path}: {answer.status} {told.get('detail') or told}")
        return told

    def run(self, agent_id, message=None, *, idempotency_key=None, **more):
        """A job for the agent, with the message as its input. The same key again is the same job. `more`: other
        members of POST /v1/jobs."""
        body = {"agent": agent_id, "input": message, **more}
        key = idempotency_key or str(uuid.uuid4())
        told = self._ask("POST", "/v1/jobs", body, {"Idempotency-Key": key})
        return Job(self, told, agent_id, message if isinstance(message, str) else "")

    def get_job(self, job_id):
        return Job(self, self._ask("GET", f"/v1/jobs/{job_id}"))

    def list_jobs(self, agent_id=None, *, status=None, limit=20):
        """Newest first; of one agent, if it is named."""
        word = {"waiting": "parked"}.get(getattr(status, "value", status), getattr(status, "value", status))
        found, after = [], ""
        while len(found) < limit:
            query = f"?limit=200{f'&status={word}' if word else ''}{f'&after={after}' if after else ''}"
            page = self._ask("GET", f"/v1/jobs{query}")
            found += [Job(self, one) for one in page["jobs"] if agent_id in (None, one["name"])]
            after = page["next"]
            if not after:
                break
        return found[:limit]

    def signal_job(self, job_id, payload, *, correlation_key="", idempotency_key=None):
        """Answers what the job waits for: the signal of the name `correlation_key`, else its only open wait. A person's
        approval is `{"approved": True, ...}`; the rest is the form."""
        key = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        path = f"/v1/jobs/{job_id}"
        waits = [one for one in self._ask("GET", path).get("waits", []) if one.get("open", True)]
        if correlation_key and not any(one["kind"] == "human" and one["path"] == correlation_key for one in waits):
            self._ask("POST", f"{path}/signals", {"name": correlation_key, "payload": payload}, key)
            return
        if correlation_key:
            waits = [one for one in waits if one["path"] == correlation_key]
        if len(waits) != 1:
            raise AetherisError(f"job {job_id} has {len(waits)} open waits: name one with correlation_key")
        (wait,) = waits
        if wait["kind"] != "human":
            self._ask("POST", f"{path}/signals", {"name": wait["name"], "payload": payload}, key)
            return
        form = dict(payload) if isinstance(payload, dict) else {"answer": payload}
        yes = form.pop("approved", True)
        body = {"decision": "approve" if yes else "reject", "step": wait["path"], "form": form or None}
        self._ask("POST", f"{path}/approvals", body)

    def health(self):
        try:
            return self._ask("GET", "/health").get("status") == "ok"
        except AetherisError:
            return False
