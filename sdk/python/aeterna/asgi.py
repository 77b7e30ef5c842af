# SPDX-License-Identifier: Apache-2.0
"""For ASGI servers (uvicorn, hypercorn, daphne): keep-alive clients move by themselves."""

from __future__ import annotations

from typing import Any, Awaitable, Callable, Optional

from .client import AeternaClient


class Draining:
    """Wraps an ASGI application: once this process drains, every answer says `Connection: close`, so
    that the client's next request goes to the next revision. `app = Draining(app)`. Use it with
    `orchestration.drain.stop: when_idle`, so that the server is not told to stop before that."""

    def __init__(self, app: Callable[..., Awaitable[Any]], client: Optional[AeternaClient] = None):
        self.app = app
        self.client = client or AeternaClient()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_close(message: Any) -> None:
            if message["type"] == "http.response.start" and self.client.draining:
                headers = [
                    (name, value)
                    for name, value in message.get("headers", ())
                    if name.lower() != b"connection"
                ]
                message = {**message, "headers": [*headers, (b"connection", b"close")]}
            await send(message)

        await self.app(scope, receive, send_with_close)
