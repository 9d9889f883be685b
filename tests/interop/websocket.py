"""WebSockets of the `websockets` package, client and server, through the sidecar."""

import asyncio
import os
import time
from collections import Counter

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from websockets.extensions.permessage_deflate import PerMessageDeflate

from sidecar import Sidecar

CONNECTIONS = 100
# Through two renewals of the token.
LONG = 7.0


def check(condition, what):
    if not condition:
        raise AssertionError(f"WebSocket: {what}")


class Server:
    """Gives back what it gets; what it should do besides is in the path."""

    def __init__(self, tokens):
        self.tokens = tokens
        self.problems, self.handshakes, self.closed, self.used = [], 0, {}, set()

    def select(self, _socket, offered):
        return next((protocol for protocol in ("interop.v2", "interop.v1") if protocol in offered), None)

    async def handle(self, socket):
        self.handshakes += 1
        request = socket.request
        try:
            self.used.add(self.tokens.accept(request.headers.get_all("Authorization")))
            check(request.headers["Host"] == self.host, "the Host is the server's")
        except AssertionError as error:
            self.problems.append(str(error))
        try:
            if request.path == "/closes":
                await socket.close(4001, "the server's reason")
            elif request.path == "/breaks":
                socket.transport.abort()
            elif request.path == "/fragments":
                await socket.send(["one ", "two ", "three"])
                await socket.send([b"\x00", b"", b"\xff"])
                await (await socket.ping())
            async for message in socket:
                await socket.send(message)
        except ConnectionClosed:
            pass
        self.closed[request.path] = (socket.close_code, socket.close_reason)


async def run(binary, tokens):
    service = Server(tokens)
    async with serve(
        service.handle, "127.0.0.1", 0, select_subprotocol=service.select, max_size=2**22
    ) as server:
        port = server.sockets[0].getsockname()[1]
        service.host = f"127.0.0.1:{port}"
        with Sidecar(binary, tokens, f"http://{service.host}") as sidecar:
            client = Client(f"ws://{sidecar.address}", service)
            await asyncio.gather(
                client.messages(), client.fragments(), client.closes(), client.refusals(), client.stays(), client.many()
            )
        check(not service.problems, Counter(service.problems))
    return f"{service.handshakes} WebSockets with {len(service.used)} tokens, {client.count} messages came back"


class Client:
    def __init__(self, url, service):
        self.url, self.service, self.count = url, service, 0

    async def echo(self, socket, message):
        await socket.send(message)
        async with asyncio.timeout(20):
            whole = message if isinstance(message, (str, bytes)) else type(message[0])().join(message)
            check(await socket.recv() == whole, "it comes back as it was")
        self.count += 1

    async def messages(self):
        for compression in ("deflate", None):
            async with connect(f"{self.url}/messages", compression=compression, max_size=2**22) as socket:
                deflates = [isinstance(each, PerMessageDeflate) for each in socket.protocol.extensions]
                check(deflates == ([True] if compression else []), "both ends agree on compression")
                check(socket.subprotocol is None, "no protocol was asked for")
                for message in ("text, ünïcode", b"\x00binary\xff", "", b"", "x" * 2**20, os.urandom(2**20)):
                    await self.echo(socket, message)
                async with asyncio.timeout(20):
                    await (await socket.ping(b"are you there"))
        async with connect(f"{self.url}/protocol", subprotocols=["interop.v1", "unknown"]) as socket:
            check(socket.subprotocol == "interop.v1", "a protocol was agreed on")

    async def fragments(self):
        async with connect(f"{self.url}/fragments") as socket:
            async with asyncio.timeout(20):
                check(await socket.recv() == "one two three", "fragments of text make one message")
                check(await socket.recv() == b"\x00\xff", "and those of bytes")
            await self.echo(socket, ["a", "b" * 100_000, "c"])
            await self.echo(socket, [b"a" * 70_000, b"", os.urandom(70_000)])

    async def closes(self):
        async with connect(f"{self.url}/closed") as socket:
            await self.echo(socket, "before the end")
            await socket.close(4002, "the client's reason")
        await self.until(lambda: self.service.closed.get("/closed") == (4002, "the client's reason"), "the client's close")
        async with connect(f"{self.url}/closes") as socket:
            await self.ends(socket, 4001, "the server's reason")
        async with connect(f"{self.url}/breaks") as socket:
            await self.ends(socket, 1006, "")
        socket = await connect(f"{self.url}/broken")
        await self.echo(socket, "before the break")
        socket.transport.abort()
        await self.until(lambda: self.service.closed.get("/broken") == (1006, ""), "the client's break")

    async def ends(self, socket, code, reason):
        try:
            async with asyncio.timeout(20):
                await socket.recv()
        except ConnectionClosed:
            check((socket.close_code, socket.close_reason) == (code, reason), f"{socket.close_code} instead of {code}")
        else:
            check(False, "the server has closed")

    async def until(self, condition, what):
        end = time.monotonic() + 10
        while not condition():
            check(time.monotonic() < end, f"the server does not see {what}: {self.service.closed}")
            await asyncio.sleep(0.02)

    async def refusals(self):
        for options in ({"origin": "http://other.example"}, {"additional_headers": {"Sec-Fetch-Site": "cross-site"}}):
            try:
                async with connect(f"{self.url}/refused", **options):
                    check(False, f"{options} has to be refused")
            except InvalidStatus as refusal:
                check(refusal.response.status_code == 403, f"{refusal.response.status_code} instead of 403")
        check("/refused" not in self.service.closed, "the server never hears of it")

    async def stays(self):
        """Outlives the token that it began with."""
        async with connect(f"{self.url}/stays") as socket:
            end = time.monotonic() + LONG
            while time.monotonic() < end:
                await self.echo(socket, f"still here at {time.monotonic()}")
                async with connect(f"{self.url}/another") as other:
                    await self.echo(other, "a new one")
                await asyncio.sleep(0.2)
        check(len(self.service.used) >= 3, f"{len(self.service.used)} tokens only")

    async def many(self):
        async def one(number):
            async with connect(f"{self.url}/many") as socket:
                for message in range(20):
                    await self.echo(socket, f"{number} {message} " + "y" * (message * 100))

        await asyncio.gather(*(one(number) for number in range(CONNECTIONS)))
