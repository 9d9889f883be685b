"""The service behind the sidecars. It lets in whom the authorization server calls good, and nobody else."""

import asyncio
import time
from dataclasses import dataclass


@dataclass
class Verdict:
    good: bool
    #: Since 1970, by the clock of the server.
    end: float
    #: When it was asked for, by the monotonic clock.
    asked: float


class Instance:
    """Asks the server about each token when it is new and every second since, and heeds its end."""

    def __init__(self, server):
        self.server = server
        self.verdicts = {}
        self.pending = {}
        #: When whose request was refused, and why.
        self.refused = []
        self.tokens = {}
        self.problems = []

    async def start(self):
        self.listener = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.listener.sockets[0].getsockname()[1]}"

    def stop(self):
        self.listener.close()

    async def serve(self, reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                first, *lines = head.rstrip("\r\n").split("\r\n")
                client = first.split(" ")[1].strip("/")
                why = await self.judge(client, lines)
                status, field = ("200 OK", "") if why is None else ("401 Unauthorized", "WWW-Authenticate: Bearer\r\n")
                if why:
                    self.refused.append((time.monotonic(), client, why))
                writer.write(f"HTTP/1.1 {status}\r\n{field}Content-Length: 2\r\n\r\nok".encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    async def judge(self, client, lines):
        """Why a request is refused, or None."""
        values = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("authorization:")]
        if len(values) != 1 or not values[0].startswith("Bearer "):
            self.problems.append(f"{client}: {len(values)} credentials in a request")
            return "no single bearer token"
        token = values[0].removeprefix("Bearer ")
        self.tokens.setdefault(client, set()).add(token)
        verdict = await self.verdict(token)
        if not verdict.good:
            return "not active"
        return "ended" if time.time() + self.server.skew >= verdict.end else None

    async def verdict(self, token):
        """The first is waited for; a later one comes when it comes, as with any resource server that caches."""
        known = self.verdicts.get(token)
        if known is None or time.monotonic() - known.asked > 1:
            if token not in self.pending:
                self.pending[token] = asyncio.create_task(self.ask(token))
            if known is None:
                await asyncio.shield(self.pending[token])
        return self.verdicts[token]

    async def ask(self, token):
        try:
            good, end = await asyncio.wait_for(asyncio.to_thread(self.server.introspect, token), 5)
            self.verdicts[token] = Verdict(good, end, time.monotonic())
        except (OSError, ValueError, asyncio.TimeoutError) as error:
            # The server is away: what is known holds, and what is new is not good.
            known = self.verdicts.get(token)
            if known is None:
                self.problems.append(f"a new token could not be looked up: {error!r}")
                self.verdicts[token] = Verdict(False, 0, time.monotonic())
            else:
                known.asked = time.monotonic()
        finally:
            del self.pending[token]
