"""Requests at a fixed rate, whatever becomes of them, and what became of them."""

import asyncio
import contextlib
import time
from dataclasses import dataclass

#: A sidecar holds a request for 8 s; a client waits a little longer.
PATIENCE = 12


@dataclass
class Outcome:
    at: float
    client: str
    #: None: the exchange broke.
    status: int | None
    seconds: float
    #: Whether the sidecar answered, and not the service.
    own: bool = False
    retry_after: int | None = None
    detail: str = ""


class Gone(ConnectionError):
    """A connection ended before anything of a response came."""


async def head_of(reader):
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        raise Gone from error
    except ConnectionResetError as error:
        raise Gone from error


class Load:
    """Open loop: a request begins when its time has come, on an idle connection or a new one."""

    def __init__(self, name, address, rate):
        self.name, self.address, self.rate = name, address, rate
        self.outcomes = []
        self.idle = []
        self.under_way = set()

    def start(self):
        self.task = asyncio.create_task(self.run())

    async def run(self):
        began, sent = time.monotonic(), 0
        while True:
            due = int((time.monotonic() - began) * self.rate)
            for _ in range(due - sent):
                request = asyncio.create_task(self.request())
                self.under_way.add(request)
                request.add_done_callback(self.under_way.discard)
            sent = max(sent, due)
            await asyncio.sleep(1 / self.rate)

    async def stop(self):
        self.task.cancel()
        if self.under_way:
            await asyncio.wait(self.under_way, timeout=PATIENCE + 1)
        for _, writer in self.idle:
            writer.close()

    async def request(self):
        at = time.monotonic()
        try:
            outcome = await asyncio.wait_for(self.exchange(at), PATIENCE)
        except (OSError, ValueError, EOFError, asyncio.TimeoutError) as error:
            outcome = Outcome(at, self.name, None, time.monotonic() - at, detail=repr(error))
        self.outcomes.append(outcome)

    async def exchange(self, at):
        # Who keeps connections sees which of them have ended, and tries again where one ends just now.
        while self.idle:
            reader, writer = self.idle.pop()
            if not reader.at_eof():
                with contextlib.suppress(Gone):
                    return await self.exchange_on(reader, writer, at)
                break
        host, _, port = self.address.rpartition(":")
        return await self.exchange_on(*await asyncio.open_connection(host, int(port)), at)

    async def exchange_on(self, reader, writer, at):
        try:
            writer.write(f"GET /{self.name} HTTP/1.1\r\nHost: {self.address}\r\n\r\n".encode())
            head = (await head_of(reader)).decode("latin-1")
            first, *lines = head.rstrip("\r\n").split("\r\n")
            fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await reader.readexactly(int(fields.get("content-length", "0")))
        except BaseException:
            writer.transport.abort()
            raise
        if fields.get("connection", "").lower() == "close":
            writer.close()
        else:
            self.idle.append((reader, writer))
        own = fields.get("proxy-status", "").startswith("auth-sidecar")
        status, after = int(first.split(" ")[1]), fields.get("retry-after")
        detail = body.decode("utf-8", "replace") if own else ""
        return Outcome(at, self.name, status, time.monotonic() - at, own, int(after) if after else None, detail)
