"""What lies between the sidecars and a token service: passes bytes on, and writes down each token call.

Servers are told that this is their address, so nothing of what they say or check differs.
"""

import asyncio
import base64
import time
import urllib.parse
from dataclasses import dataclass, field

#: More of a message is passed on, but not kept.
KEPT = 64 * 1024


@dataclass
class Call:
    """One connection, on which the sidecar makes one call. Of TLS only its time is known."""

    port: int
    at: float = field(default_factory=time.monotonic)
    sent: bytearray = field(default_factory=bytearray)
    received: bytearray = field(default_factory=bytearray)

    @property
    def path(self):
        words = self.sent.split(b"\r\n", 1)[0].split(b" ")
        return words[1].decode("latin-1") if len(words) == 3 else ""

    @property
    def form(self):
        body = self.sent.partition(b"\r\n\r\n")[2].decode("latin-1")
        return dict(urllib.parse.parse_qsl(body, keep_blank_values=True))

    @property
    def client(self):
        """Who asked: by the form, or by HTTP Basic."""
        for line in self.sent.partition(b"\r\n\r\n")[0].split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"authorization" and value.strip().startswith(b"Basic "):
                pair = base64.b64decode(value.strip()[6:]).decode("latin-1")
                return urllib.parse.unquote_plus(pair.partition(":")[0])
        return self.form.get("client_id")

    @property
    def status(self):
        words = self.received.split(b" ", 2)
        return int(words[1]) if len(words) == 3 and words[1].isdigit() else None

    @property
    def answer(self):
        return self.received.partition(b"\r\n\r\n")[2].decode("utf-8", "replace")


class Relay:
    """One port of ours for one of a server's."""

    def __init__(self, target):
        self.target = target
        self.calls = []

    async def start(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]

    async def serve(self, reader, writer):
        call = Call(self.port)
        self.calls.append(call)
        try:
            far_reader, far_writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", self.target), 5)
        except (OSError, asyncio.TimeoutError):
            # As if nothing listened here.
            writer.transport.abort()
            return
        back = asyncio.create_task(copy(far_reader, writer, call.received))
        await copy(reader, far_writer, call.sent)
        # Who asked has gone; the server may not have noticed that it is to close.
        await asyncio.wait([back], timeout=5)
        far_writer.transport.abort()
        await back
        writer.close()

    def stop(self):
        self.server.close()


async def copy(reader, writer, kept):
    try:
        while data := await reader.read(16 * 1024):
            kept += data[: max(0, KEPT - len(kept))]
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.transport.abort()
