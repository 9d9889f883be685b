"""What the Python clients put on the wire, recorded below them: both use urllib3."""

import threading
import zlib
from collections import Counter
from contextlib import contextmanager

from urllib3.connectionpool import HTTPConnectionPool


class Wire:
    """Counts calls, keeps what was reported, and collects everything that went wrong."""

    def __init__(self):
        self.lock = threading.Lock()
        self.calls = Counter()
        self.reported = Counter()
        self.problems = []
        self.here = threading.local()

    def install(self):
        original = HTTPConnectionPool.urlopen
        wire = self

        def urlopen(pool, method, url, body=None, headers=None, *rest, **options):
            if getattr(wire.here, "inside", False):
                wire.problem(f"a client had to repeat {method} {url}")
                return original(pool, method, url, body, headers, *rest, **options)
            wire.here.inside = True
            try:
                answer = original(pool, method, url, body, headers, *rest, **options)
            except Exception as error:
                wire.problem(f"{method} {url}: {error!r}")
                raise
            finally:
                wire.here.inside = False
            expected = getattr(wire.here, "expected", None)
            agent = (headers or {}).get("User-Agent", "?").split("/")[0]
            wire.call(agent, method, url, answer.status, expected)
            if method == "POST" and answer.status < 300:
                encoding = (headers or {}).get("Content-Encoding")
                wire.report(url, encoding, body)
            return answer

        HTTPConnectionPool.urlopen = urlopen

    @contextmanager
    def expecting(self, status):
        """For calls of this thread that the service has to refuse."""
        self.here.expected = status
        try:
            yield
        finally:
            self.here.expected = None

    def call(self, client, method, target, status, expected=None):
        with self.lock:
            self.calls[client] += 1
        good = status == expected if expected else 200 <= status < 300
        if not good:
            self.problem(f"{client}: {method} {target} was answered {status}")

    def report(self, target, encoding, body):
        """Notes a body that has to arrive as it is."""
        path = target.partition("?")[0]
        if path not in ("/report", "/api/v2/event"):
            return
        body = body.encode() if isinstance(body, str) else body or b""
        with self.lock:
            self.reported[(target, encoding, len(body), f"{zlib.crc32(body):08x}")] += 1

    def problem(self, text):
        with self.lock:
            self.problems.append(text)
