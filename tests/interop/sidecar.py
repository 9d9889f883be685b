"""A sidecar of one's own, in front of any server, with tokens that live for three seconds."""

import json
import os
import re
import subprocess
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LIFETIME = 3


class TokenService:
    """Grants one token after the other, and knows which of them are good."""

    def __init__(self):
        self.granted = {}
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                token = f"interop-token-{len(service.granted) + 1}"
                service.granted[token] = time.monotonic() + LIFETIME
                body = json.dumps({"access_token": token, "token_type": "Bearer", "expires_in": LIFETIME}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/token"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def accept(self, values):
        """Exactly one credential, and the token in it is good now; returns the token."""
        if len(values) != 1:
            raise AssertionError(f"{len(values)} credentials")
        token = values[0].removeprefix("Bearer ")
        if not self.granted.get(token, 0) > time.monotonic():
            raise AssertionError("a token that is not good")
        return token


class Sidecar:
    """The binary; killed at the end of the block."""

    def __init__(self, binary, tokens, upstream, **settings):
        environment = {
            "AUTH_SIDECAR_LISTEN__ADDRESS": "127.0.0.1:0",
            "AUTH_SIDECAR_ADMIN__ADDRESS": "off",
            "AUTH_SIDECAR_UPSTREAM__URL": upstream,
            "AUTH_SIDECAR_AUTH__TYPE": "oauth2-client-credentials",
            "AUTH_SIDECAR_AUTH__TOKEN_URL": tokens.url,
            "AUTH_SIDECAR_AUTH__CLIENT_ID": "interop",
            "AUTH_SIDECAR_AUTH__CLIENT_SECRET": "interop",
            **settings,
        }
        self.output = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [binary, "run"], env=environment, stdout=self.output, stderr=self.output, cwd=tempfile.gettempdir()
        )
        self.address = self.wait_for_address()

    def wait_for_address(self):
        end = time.monotonic() + 10
        while time.monotonic() < end and self.process.poll() is None:
            found = re.search(r"listening.*address[\"=: ]*([0-9.:]+)", self.said())
            if found:
                return found.group(1)
            time.sleep(0.02)
        raise AssertionError(f"no sidecar: {self.said()}")

    def said(self):
        return os.pread(self.output.fileno(), 1 << 20, 0).decode()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
