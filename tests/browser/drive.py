"""Hostile pages in a browser, against a sidecar and against a service without one.

The service answers every web page with all the permissions that CORS has, so nothing but the sidecar is in the way.
"""

import base64
import hashlib
import http.server
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from chromium import Chromium, Page

# In whatever a page must not read.
SERVICE_MARK = "words-of-the-service"
ADMIN_MARKS = re.compile("uptime_seconds|auth_sidecar_|<h1>")
HTML = (Path(__file__).parent / "attack.html").read_text()


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, handler):
        super().__init__(("127.0.0.1", 0), handler)
        self.lock = threading.Lock()
        self.requests = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def port(self):
        return self.server_address[1]

    def take(self):
        with self.lock:
            taken, self.requests = self.requests, []
        return taken


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def answer(self, status, fields, body=b""):
        self.send_response(status)
        for name, value in fields:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class Service(Handler):
    """The upstream and the token service; as the control also what a page attacks."""

    def handle_any(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        with self.server.lock:
            self.server.requests.append((self.command, self.path, self.headers.get("Authorization")))
        origin = self.headers.get("Origin", "*")
        fields = [
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Allow-Credentials", "true"),
            ("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE"),
            ("Access-Control-Allow-Headers", "x-auth-token, x-requested-with, content-type"),
            ("Access-Control-Allow-Private-Network", "true"),
            ("Cache-Control", "no-store"),
        ]
        if self.path == "/token":
            grant = {"access_token": "t" * 40, "token_type": "Bearer", "expires_in": 3600}
            return self.answer(200, [("Content-Type", "application/json")], json.dumps(grant).encode())
        if self.headers.get("Upgrade", "").lower() == "websocket":
            return self.upgrade()
        if "event-source" in self.path:
            return self.answer(200, [*fields, ("Content-Type", "text/event-stream")], f"data: {SERVICE_MARK}\n\n".encode())
        kind = "text/javascript" if "module" in self.path or "script" in self.path else "text/html"
        self.answer(200, [*fields, ("Content-Type", kind)], f'export default "{SERVICE_MARK}"'.encode())

    do_GET = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_HEAD = handle_any

    def upgrade(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        self.send_response(101)
        for name, value in [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept)]:
            self.send_header(name, value)
        self.end_headers()
        text = SERVICE_MARK.encode()
        self.wfile.write(bytes([0x81, len(text)]) + text)
        self.close_connection = True


class Attacker(Handler):
    """Serves the hostile page, and sends browsers on to wherever it likes."""

    def handle_any(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path, _, query = self.path.partition("?")
        if path == "/redirect":
            return self.answer(307, [("Location", query), ("Access-Control-Allow-Origin", "*")])
        self.answer(200, [("Content-Type", "text/html; charset=utf-8")], HTML.encode())

    do_GET = do_POST = do_OPTIONS = handle_any


class Sidecar:
    """The program, in front of the service."""

    def __init__(self, program, directory, service, listen=""):
        directory.mkdir()
        config = directory / "config.toml"
        config.write_text(
            f"""
            [listen]
            address = "127.0.0.1:0"
            {listen}
            [upstream]
            url = "http://127.0.0.1:{service.port}"
            [auth]
            type = "oauth2-client-credentials"
            token_url = "http://127.0.0.1:{service.port}/token"
            client_id = "id"
            client_secret = "secret"
            [admin]
            address = "127.0.0.1:0"
            allow_quit = true
            [log]
            format = "json"
            """
        )
        self.output = directory / "output"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen([program, "run", "--config", config], stdout=output, stderr=output)
        self.port = self.listening("listening")
        self.admin = self.listening("admin listening")
        wait(lambda: self.ask("/readyz")[0] == 200, "the sidecar is not ready")
        service.take()

    def listening(self, message):
        pattern = re.compile(f'"message":"{message}","address":"127.0.0.1:([0-9]+)"')
        wait(lambda: pattern.search(self.output.read_text()), f"no {message!r} in {self.output.read_text()}")
        return int(pattern.search(self.output.read_text())[1])

    def ask(self, path, method="GET"):
        request = urllib.request.Request(f"http://127.0.0.1:{self.admin}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""

    def close(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def wait(condition, text):
    deadline = time.monotonic() + 15
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"browser: {text}")
        time.sleep(0.05)


class Test:
    def __init__(self, sidecar, service, chromium, scratch):
        self.service = service
        self.attacker = Server(Attacker)
        self.origins = [f"http://127.0.0.1:{self.attacker.port}", f"http://evil.example:{self.attacker.port}"]
        self.sidecar = Sidecar(sidecar, scratch / "sidecar", service)
        allow = f'allow_origins = ["{self.origins[1]}"]'
        self.allowing = Sidecar(sidecar, scratch / "allowing", service, allow)
        self.browser = Chromium(chromium, str(scratch), "MAP *.example 127.0.0.1")
        self.problems = []

    def close(self):
        self.browser.close()
        self.sidecar.close()
        self.allowing.close()

    def expect(self, is_so, text):
        if not is_so:
            self.problems.append(text)
            print(f"browser: PROBLEM: {text}", file=sys.stderr)

    # What pages do, and what of it arrived.

    def attack(self, page, pattern):
        """What the page read, by technique, and which requests arrived."""
        read = page.run(f"attack({json.dumps(pattern)})")
        # Beacons and prefetches are sent when the browser finds the time.
        time.sleep(0.5)
        return read, self.arrived()

    def arrived(self):
        return [(method, path) for method, path, _ in self.service.take() if path != "/token"]

    def navigations(self, open_page, pattern, names):
        arrived = []
        for name in names:
            with Page(self.browser) as page:
                open_page(page)
                page.run(f"navigate({json.dumps(name)}, {json.dumps(pattern.replace('*', name))})")
                page.loaded()
            arrived += self.arrived()
        return arrived

    def foreign(self, origin):
        """A page of another origin."""
        return lambda page: page.open(f"{origin}/")

    def rebound(self, port):
        """A page whose name led elsewhere when it was loaded, and leads to that port now."""
        return lambda page: page.open_forged(f"http://rebound.example:{port}/page", HTML)

    # The two attacks, on whatever listens on that port.

    def as_foreign(self, origin, base):
        with Page(self.browser) as page:
            self.foreign(origin)(page)
            read, arrived = self.attack(page, f"{base}/api/*")
        names = page_names("NAVIGATIONS")
        arrived += self.navigations(self.foreign(origin), f"{base}/api/navigation-*", names)
        return read, arrived

    def as_rebound(self, port):
        base = f"http://rebound.example:{port}"
        with Page(self.browser) as page:
            self.rebound(port)(page)
            read, arrived = self.attack(page, f"{base}/api/*")
        names = [name for name in page_names("NAVIGATIONS") if "redirected" not in name]
        arrived += self.navigations(self.rebound(port), f"{base}/api/navigation-*", names)
        return read, arrived

    # The cases.

    def control(self):
        """Without a sidecar everything arrives: the techniques are good ones."""
        techniques = page_names("TECHNIQUES")
        navigations = [f"navigation-{name}" for name in page_names("NAVIGATIONS")]
        for how, (read, arrived), absent in [
            *(
                (f"the control, from {origin}", self.as_foreign(origin, f"http://127.0.0.1:{self.service.port}"), set())
                for origin in self.origins
            ),
            (
                "the control, rebound",
                self.as_rebound(self.service.port),
                # Redirects are served by the attacker alone.
                {"fetch-redirected", "image-redirected", "navigation-location-redirected"},
            ),
        ]:
            seen = {path.split("/")[-1].split("?")[0] for _, path in arrived}
            missing = {*techniques, *navigations} - seen - absent
            self.expect(not missing, f"{how}: these never reached the service: {sorted(missing)}")
            could = {name for name, text in read.items() if SERVICE_MARK in text}
            wanted = {"fetch-get", "fetch-post-json", "fetch-delete", "xhr-post-field", "websocket", "event-source", "module"}
            self.expect(wanted <= could, f"{how}: these could not read: {sorted(wanted - could)}")
            print(f"browser: {how}: {len(arrived)} requests of {len(seen)} techniques arrived, {len(could)} could read")

    def no_page_gets_through(self):
        port = self.sidecar.port
        for origin in self.origins:
            for host in ["127.0.0.1", "localhost", "0.0.0.0"]:
                how = f"from {origin} to {host}"
                self.nothing(how, self.as_foreign(origin, f"http://{host}:{port}"))
        self.nothing("rebound", self.as_rebound(port))
        refused = self.refusals(self.sidecar)
        self.expect(refused > 200, f"the sidecar counts only {refused} refused requests: the pages did not reach it")
        print(f"browser: the sidecar refused {refused:.0f} requests of pages")

    def nothing(self, how, result):
        read, arrived = result
        # A browser that was led here, and refused, asks for the icon of the refusal: that is no page's request, and
        # no page chooses a thing about it.
        arrived = [request for request in arrived if request != ("GET", "/favicon.ico")]
        self.expect(not arrived, f"{how}: arrived through the sidecar: {arrived}")
        could = [name for name, text in read.items() if SERVICE_MARK in text]
        self.expect(not could, f"{how}: could read: {could}")
        self.expect(not read["websocket"].startswith("opened"), f"{how}: a WebSocket was opened")
        print(f"browser: {how}: {len(read)} techniques, {len(arrived)} requests arrived, {len(could)} could read")

    def refusals(self, sidecar):
        metrics = sidecar.ask("/metrics")[1]
        return sum(float(count) for count in re.findall(r"^auth_sidecar_rejected_total\{.*\} ([0-9.]+)$", metrics, re.M))

    def no_page_acts_on_the_admin_listener(self):
        port = self.sidecar.admin
        for path in ["/refresh", "/quitquitquit", "/status", "/metrics", "/"]:
            for how, open_page, host in [
                (self.origins[0], self.foreign(self.origins[0]), "127.0.0.1"),
                (self.origins[1], self.foreign(self.origins[1]), "localhost"),
                ("rebound", self.rebound(port), "rebound.example"),
            ]:
                with Page(self.browser) as page:
                    open_page(page)
                    read = page.run(f"attack('http://{host}:{port}{path}')")
                could = [name for name, text in read.items() if ADMIN_MARKS.search(text)]
                self.expect(not could, f"{path} of the admin listener, {how}: could read: {could}")
                url = f"http://{host}:{port}{path}"
                self.navigations(open_page, url, ["form-post"])
                ended = self.sidecar.process.poll() is not None
                self.expect(not ended, f"{path} of the admin listener, {how}: stopped the sidecar")
                if ended:
                    return
        # Whoever may act can: the listener is no wall.
        calls = self.token_calls()
        self.expect(not calls, f"pages made the sidecar call the token service {calls} times")
        self.sidecar.ask("/refresh", "POST")
        wait(self.token_calls, "POST /refresh without a page does nothing either")
        self.sidecar.ask("/quitquitquit", "POST")
        wait(lambda: self.sidecar.process.poll() == 0, "POST /quitquitquit without a page does nothing either")
        print("browser: the admin listener did nothing for pages, and all for a program")

    def token_calls(self):
        with self.service.lock:
            return sum(path == "/token" for _, path, _ in self.service.requests)

    def an_allowed_origin_is_served(self):
        base = f"http://127.0.0.1:{self.allowing.port}"
        with Page(self.browser) as page:
            self.foreign(self.origins[1])(page)
            read, arrived = self.attack(page, f"{base}/api/*")
        for name in ["fetch-get", "fetch-post-json", "websocket"]:
            self.expect(SERVICE_MARK in read[name], f"the allowed origin cannot use {name}: {read[name]!r}")
        # A preflight is a question to the service, and it is the service that grants.
        self.expect(("OPTIONS", "/api/fetch-post-json") in arrived, "no preflight of the allowed origin arrived")
        for name in ["image", "frame", "form-get"]:
            reached = [path for _, path in arrived if path.split("?")[0] == f"/api/{name}"]
            self.expect(not reached, f"{name} names no origin, and arrived")
        with Page(self.browser) as page:
            self.foreign(self.origins[0])(page)
            read, arrived = self.attack(page, f"{base}/api/*")
        self.nothing("from another origin, where one is allowed", (read, arrived))

    def the_user_is_served(self):
        """Whoever types the address, or opens it from a mail, is no page."""
        with Page(self.browser) as page:
            page.open(f"http://127.0.0.1:{self.allowing.port}/api/typed")
        self.expect(("GET", "/api/typed") in self.arrived(), "an address that the user typed does not arrive")


def page_names(table):
    """The names in a table of the page's script."""
    body = re.search(rf"const {table} = \{{\n(.*?)\n\}};", HTML, re.S)[1]
    return [quoted or plain for quoted, plain in re.findall(r'^  (?:"([a-z-]+)"|([a-z]+))(?=[:(])', body, re.M)]


def main():
    program, chromium, scratch = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    test = Test(program, Server(Service), chromium, scratch)
    try:
        print(f"browser: {test.browser.version()}")
        test.control()
        test.no_page_gets_through()
        test.an_allowed_origin_is_served()
        test.the_user_is_served()
        test.no_page_acts_on_the_admin_listener()
    finally:
        test.close()
    if test.problems:
        raise SystemExit(f"browser: {len(test.problems)} problems")
    print("browser: passed")


if __name__ == "__main__":
    main()
