"""The services behind a sidecar under test: a token service, a service that knows its tokens, and a
name server. All on one address, 127.0.0.1 of whichever network namespace this runs in if no other is given;
Python's library alone.

    fakes.py SECRET_FILE [TOKEN_PORT SERVICE_PORT DNS_PORT [ADDRESS]]

The token service accepts the secrets that SECRET_FILE holds at that moment, one a line, and the tokens of
any other end at once. A client may also show an assertion, that is a JSON Web Token for the audience
"token-service"; the last one is left beside SECRET_FILE for somebody else to judge. The service answers 200 to
a current token and 401 otherwise; /slow takes two seconds, and /count says how often it met what, secrets too.
Names under .test lead to 127.0.0.1.
"""

import base64
import json
import socket
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

SECRET = Path(sys.argv[1])
TOKEN_PORT, SERVICE_PORT, DNS_PORT = (int(port) for port in (sys.argv[2:5] or ("8801", "8802", "53")))
ADDRESS = (sys.argv[5:6] or ["127.0.0.1"])[0]
LIFETIME = 60
AUDIENCE = "token-service"

met = Counter()
number = 0
lock = threading.Lock()


def current():
    return SECRET.read_text().split()


def is_current(token):
    return token.rpartition(".")[0] in current()


def is_for_us(assertion):
    payload = assertion.split(".")[1]
    audience = json.loads(base64.urlsafe_b64decode(payload + "==="))["aud"]
    return AUDIENCE in ([audience] if isinstance(audience, str) else audience)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body):
        body = json.dumps(body).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))


class TokenService(Handler):
    def do_POST(self):
        global number
        form = parse_qs(self.body().decode())
        scheme, _, credentials = (self.headers.get("Authorization") or "").partition(" ")
        given = base64.b64decode(credentials).decode().partition(":")[2] if scheme == "Basic" else ""
        if assertion := form.get("client_assertion", [""])[0]:
            (SECRET.parent / "assertion").write_text(assertion)
            given = current()[0] if is_for_us(assertion) else ""
        if given not in current():
            with lock:
                met["rejected"] += 1
            return self.answer(400, {"error": "invalid_client"})
        with lock:
            number += 1
            met["granted"] += 1
            met[given] += 1
        self.answer(200, {"access_token": f"{given}.{number}", "token_type": "bearer", "expires_in": LIFETIME})


class Service(Handler):
    def do_GET(self):
        self.body()
        if self.path == "/count":
            return self.answer(200, met)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        is_known = is_current(token)
        if self.path == "/slow" and is_known:
            time.sleep(2)
        with lock:
            met["served" if is_known else "unauthorized"] += 1
        self.answer(200 if is_known else 401, {"path": self.path, "number": token.rpartition(".")[2]})

    do_POST = do_GET


def name_server():
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((ADDRESS, DNS_PORT))
    while True:
        query, client = server.recvfrom(512)
        end = query.index(0, 12) + 5
        name, kind = query[12 : end - 4], query[end - 4 : end - 2]
        known = name.lower().endswith(b"\x04test\x00")
        answers = known and kind == b"\x00\x01"
        head = query[:2] + (b"\x81\x80" if known else b"\x81\x83") + b"\x00\x01"
        head += (b"\x00\x01" if answers else b"\x00\x00") + b"\x00\x00\x00\x00"
        record = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04" + socket.inet_aton("127.0.0.1")
        server.sendto(head + query[12:end] + (record if answers else b""), client)
        with lock:
            met["looked_up"] += answers


def main():
    ThreadingHTTPServer.daemon_threads = True
    ThreadingHTTPServer.request_queue_size = 128
    services = [
        ThreadingHTTPServer((ADDRESS, port), handler)
        for port, handler in ((TOKEN_PORT, TokenService), (SERVICE_PORT, Service))
    ]
    for service in services:
        threading.Thread(target=service.serve_forever, daemon=True).start()
    print("serving", flush=True)
    name_server()


main()
