"""MiniStack, as its own command starts it, but not too quick for Terraform. Run by MiniStack's own interpreter.

It can answer before Terraform's provider has finished asking. The provider then takes the connection for broken, asks
again, and hears that what it is creating exists already. So whatever the provider asks is answered a moment later; of
eight applies on a busy machine five met this, and none with the pause. Nobody else is kept waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import ministack.app as server

PAUSE_S = 0.005
# https://developer.hashicorp.com/terraform/plugin/framework: the provider names itself so to AWS.
_PROVIDER = b"terraform-provider-aws"

Event = MutableMapping[str, Any]
Send = Callable[[Event], Awaitable[None]]
Receive = Callable[[], Awaitable[Event]]
App = Callable[[Event, Receive, Send], Awaitable[None]]


def patient(app: App) -> App:
    """The same app, which answers Terraform's provider after a pause."""

    async def answer(scope: Event, receive: Receive, send: Send) -> None:
        async def send_late(event: Event) -> None:
            if event["type"] == "http.response.start":
                await asyncio.sleep(PAUSE_S)
            await send(event)

        await app(scope, receive, send_late if _is_provider(scope) else send)

    return answer


def _is_provider(scope: Event) -> bool:
    return any(name == b"user-agent" and _PROVIDER in value for name, value in scope.get("headers", ()))


if __name__ == "__main__":
    server.app = patient(server.app)
    server.main()
