"""What HTTP/2 lets a client do to a server, frame by frame: each must end, cost little, and hurt no neighbour."""

import asyncio
import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from sidecar import Sidecar

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAMES = 100_000
LARGE = 4 << 20
# An abuse ends by then: refused, or all of it taken.
PATIENCE = 20.0
# In MiB, above what the process had before.
MEMORY = 24


def check(condition, what):
    if not condition:
        raise AssertionError(f"abuse: {what}")


class Upstream(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = bytes(LARGE) if self.path == "/large" else b"good"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            pass

    def do_POST(self):
        self.close_connection = True
        self.do_GET()

    def log_message(self, *_):
        pass


class Quiet(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def handle_error(self, *_):
        """Connections that are broken off are the point."""


class Attacker:
    """One connection; writes what it is told for as long as it is read."""

    def __init__(self, address, settings):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), 5)
        self.address, self.encoder, self.sent = address, Encoder(), 0
        self.socket.sendall(PREFACE + SettingsFrame(0, settings=settings).serialize())

    def head(self, method="GET", path="/"):
        pairs = [(":method", method), (":scheme", "http"), (":authority", self.address), (":path", path)]
        return self.encoder.encode(pairs)

    def request(self, stream, method="GET", path="/", flags=("END_HEADERS", "END_STREAM")):
        return HeadersFrame(stream, self.head(method, path), flags=flags).serialize()

    def flood(self, frames, reads=True):
        """Whether all of it was taken."""
        end = time.monotonic() + PATIENCE
        if reads:
            threading.Thread(target=self.drain, daemon=True).start()
        self.socket.settimeout(1)
        batch = bytearray()
        try:
            for frame in frames:
                batch += frame
                if len(batch) > 1 << 16:
                    self.socket.sendall(batch)
                    batch.clear()
                    self.sent += 1
                if time.monotonic() > end:
                    return False
            self.socket.sendall(batch)
            return True
        except OSError:
            return False

    def drain(self):
        try:
            while self.socket.recv(1 << 16):
                pass
        except OSError:
            pass

    def closed_within(self, seconds):
        end = time.monotonic() + seconds
        self.socket.settimeout(0.2)
        while time.monotonic() < end:
            try:
                if not self.socket.recv(1 << 16):
                    return True
            except TimeoutError:
                continue
            except OSError:
                return True
        return False


def rapid_reset(attacker):
    """CVE-2023-44487."""
    frames = (
        attacker.request(stream) + RstStreamFrame(stream, error_code=8).serialize()
        for stream in range(1, 2 * FRAMES, 2)
    )
    return attacker.flood(frames)


def made_you_reset(attacker):
    """CVE-2025-8671: the server is made to reset the streams itself."""
    frames = (
        attacker.request(stream, "POST", flags=["END_HEADERS"])
        + WindowUpdateFrame(stream, window_increment=2**31 - 1).serialize()
        for stream in range(1, 2 * FRAMES, 2)
    )
    return attacker.flood(frames)


def endless_head(attacker):
    """CVE-2024-27316: a head that goes on and on."""
    more = ContinuationFrame(1, Encoder().encode([("x-more", "y" * 16_000)], huffman=False)).serialize()
    first = HeadersFrame(1, attacker.head()).serialize()
    return attacker.flood([first] + [more] * 10_000)


def empty_head(attacker):
    """The same with nothing in it."""
    first = HeadersFrame(1, attacker.head()).serialize()
    return attacker.flood([first] + [ContinuationFrame(1, b"").serialize()] * FRAMES)


def bomb(attacker):
    """One byte for each large field: an entry of the table, named again and again."""
    entry = Encoder().encode([("x-bomb", "y" * 3900)], huffman=False)

    def frames():
        for stream in range(1, 200, 2):
            block = attacker.head() + entry + b"\xbe" * 12_000
            yield HeadersFrame(stream, block, flags=["END_HEADERS", "END_STREAM"]).serialize()

    return attacker.flood(frames())


def stalled(attacker):
    """Large answers that are asked for and never taken."""
    attacker.flood([attacker.request(stream, path="/large") for stream in range(1, 200, 2)], reads=False)
    return not attacker.closed_within(0.5)


def pings(attacker):
    return attacker.flood([PingFrame(0, b"12345678").serialize()] * (5 * FRAMES), reads=False)


def settings(attacker):
    return attacker.flood([SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 65535}).serialize()] * (5 * FRAMES), reads=False)


def empty_data(attacker):
    head = attacker.request(1, "POST", flags=["END_HEADERS"])
    return attacker.flood([head] + [DataFrame(1, b"").serialize()] * (5 * FRAMES))


def priorities(attacker):
    frames = (PriorityFrame(stream, depends_on=0).serialize() for stream in range(1, 2 * FRAMES, 2))
    return attacker.flood(frames)


def unknown(attacker):
    return attacker.flood([b"\0\0\1\xee\0\0\0\0\0x"] * (5 * FRAMES))


def windows(attacker):
    """More room than there is: an error at the latest when it overflows."""
    return attacker.flood([WindowUpdateFrame(0, window_increment=1 << 16).serialize()] * FRAMES)


# Each with the settings of its connection, and whether that has to be ended before all of it was sent.
ABUSES = [
    (rapid_reset, {}, True),
    (made_you_reset, {}, True),
    (endless_head, {}, True),
    (empty_head, {}, True),
    (bomb, {}, True),
    (empty_data, {}, True),
    (stalled, {SettingsFrame.INITIAL_WINDOW_SIZE: 0}, False),
    (pings, {}, False),
    (settings, {}, False),
    (priorities, {}, False),
    (unknown, {}, False),
    (windows, {}, False),
]


class Neighbour(threading.Thread):
    """Asks all the time, in both versions, and notes the longest wait."""

    def __init__(self, url):
        super().__init__(daemon=True)
        self.url, self.stopped, self.worst, self.problem, self.asked = url, threading.Event(), 0.0, None, 0

    def run(self):
        try:
            with (
                httpx.Client(base_url=self.url, trust_env=False, timeout=10) as one,
                httpx.Client(base_url=self.url, trust_env=False, timeout=10, http1=False, http2=True) as two,
            ):
                while not self.stopped.is_set():
                    for client in (one, two):
                        began = time.monotonic()
                        answer = client.get("/")
                        check((answer.status_code, answer.content) == (200, b"good"), f"a neighbour got {answer}")
                        self.worst = max(self.worst, time.monotonic() - began)
                        self.asked += 1
                    time.sleep(0.01)
        except Exception as problem:
            self.problem = problem

    def is_served(self):
        """Whether both of its connections get an answer to a request that begins from now on."""
        asked, until = self.asked, time.monotonic() + PATIENCE
        while self.problem is None and self.asked < asked + 4 and time.monotonic() < until:
            time.sleep(0.005)
        return self.problem is None and self.asked >= asked + 4


async def run(binary, tokens):
    return await asyncio.to_thread(drive, binary, tokens)


def drive(binary, tokens):
    upstream = Quiet(("127.0.0.1", 0), Upstream)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    told = []
    with Sidecar(binary, tokens, f"http://127.0.0.1:{upstream.server_port}") as sidecar:
        before = memory(sidecar)
        neighbour = Neighbour(f"http://{sidecar.address}")
        neighbour.start()
        for abuse, options, must_end in ABUSES:
            began = time.monotonic()
            attacker = Attacker(sidecar.address, options)
            # What was written before the end shows only in reading.
            taken = abuse(attacker) and not (must_end and attacker.closed_within(5))
            took = time.monotonic() - began
            most = memory(sidecar) - before
            attacker.socket.close()
            told.append(f"{abuse.__name__} {'taken' if taken else 'refused'} {took:.1f} s {most:+.0f} MiB")
            check(sidecar.process.poll() is None, f"{abuse.__name__} ended the process")
            check(not (taken and must_end), f"{abuse.__name__} was not ended")
            check(took < PATIENCE, f"{abuse.__name__} takes {took:.1f} s")
            check(most < MEMORY, f"{abuse.__name__} costs {most:.1f} MiB")
            # However short the abuse was, and however busy the machine is.
            check(neighbour.is_served(), f"{abuse.__name__}: the neighbour: {neighbour.problem!r}")
        neighbour.stopped.set()
        neighbour.join()
        check(neighbour.problem is None, neighbour.problem)
    return f"{', '.join(told)}; a neighbour waited {neighbour.worst * 1000:.0f} ms at most"


def memory(sidecar):
    """Anonymous memory of the process in MiB."""
    with open(f"/proc/{sidecar.process.pid}/status") as status:
        return int(re.search(r"RssAnon:\s+(\d+)", status.read()).group(1)) / 1024
