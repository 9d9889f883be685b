"""A small HTTP/1.1 server whose connections can be cut, and which can go away and come back on its port."""

import gzip
import json
import socket
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


@dataclass
class Request:
    """A request as it arrived."""

    method: str
    target: str
    fields: list
    body: bytes
    at: float = field(default_factory=time.monotonic)

    @property
    def path(self):
        return urlsplit(self.target).path

    @property
    def query(self):
        return {name: values[-1] for name, values in parse_qs(urlsplit(self.target).query).items()}

    def all(self, name):
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def first(self, name, default=None):
        return next(iter(self.all(name)), default)

    @property
    def content(self):
        """The body without its content coding; clients of this service label some plain bodies as gzip."""
        if self.first("content-encoding") == "gzip" and self.body[:2] == b"\x1f\x8b":
            return gzip.decompress(self.body)
        return self.body

    def json(self):
        return json.loads(self.content)


@dataclass
class Response:
    """What is answered."""

    status: int = 200
    body: bytes = b""
    fields: dict = field(default_factory=dict)


def json_response(value, status=200):
    return Response(status, json.dumps(value).encode(), {"Content-Type": "application/json"})


class Server:
    """Calls `answer(request)` for each request; the port is kept for as long as the object lives."""

    def __init__(self, answer):
        self.answer = answer
        self.port = 0
        self.connections = set()
        self.lock = threading.Lock()
        self.server = None
        self.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 120
            disable_nagle_algorithm = True

            def setup(self):
                super().setup()
                with owner.lock:
                    owner.connections.add(self.connection)

            def finish(self):
                with owner.lock:
                    owner.connections.discard(self.connection)
                try:
                    super().finish()
                except OSError:
                    pass

            def handle(self):
                try:
                    super().handle()
                except OSError:
                    pass

            def serve(self):
                request = Request(self.command, self.path, list(self.headers.items()), self.read_body())
                response = owner.answer(request)
                self.send_response_only(response.status)
                for name, value in response.fields.items():
                    self.send_header(name, value)
                if response.status not in (204, 304):
                    self.send_header("Content-Length", str(len(response.body)))
                self.end_headers()
                if self.command != "HEAD" and response.status not in (204, 304):
                    self.wfile.write(response.body)

            def read_body(self):
                if (self.headers.get("Transfer-Encoding") or "").lower() == "chunked":
                    body = b""
                    while size := int(self.rfile.readline().split(b";")[0], 16):
                        body += self.rfile.read(size)
                        self.rfile.readline()
                    while self.rfile.readline().strip():
                        pass
                    return body
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_LOCK = do_UNLOCK = serve

            def log_message(self, *_):
                pass

        class Listener(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True
            request_queue_size = 128

            def handle_error(self, request, client_address):
                # A client that goes away is none; anything else is shown.
                import sys
                import traceback
                if not isinstance(sys.exc_info()[1], OSError):
                    traceback.print_exc()

        self.server = Listener(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        """Nothing listens any more, and every connection is cut."""
        self.server.shutdown()
        self.server.server_close()
        with self.lock:
            connections = list(self.connections)
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


HANDED_OUT = set()


def free_port():
    """A port that nobody has, and that nobody here was given before: the system may name one twice in a row."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port not in HANDED_OUT:
            HANDED_OUT.add(port)
            return port
