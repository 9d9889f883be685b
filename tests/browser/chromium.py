"""A headless Chromium, spoken to over the pipe of its DevTools protocol."""

import base64
import fcntl
import json
import os
import select
import subprocess
import time

PATIENCE = 30


class Chromium:
    """One browser; each page has a profile of its own."""

    def __init__(self, program, directory, host_rules):
        # The browser reads commands from descriptor 3 and writes to 4.
        (theirs_in, self.commands), (self.events, theirs_out) = os.pipe(), os.pipe()
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (theirs_in, theirs_out)]
        os.close(theirs_in)
        os.close(theirs_out)
        arguments = [
            program,
            "--headless=new",
            # Its sandbox needs more than many containers give; the pages are our own.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-proxy-server",
            # Popups without a click, as a page gets them by waiting for one.
            "--disable-popup-blocking",
            # The browser's own help against attacks on local networks: here it is the sidecar that has to resist.
            "--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets",
            f"--host-resolver-rules={host_rules}",
            f"--user-data-dir={directory}/profile",
            "--remote-debugging-pipe",
        ]
        self.log = open(f"{directory}/chromium.log", "wb")
        shell = f'exec "$@" 3<&{high[0]} 4>&{high[1]} {high[0]}<&- {high[1]}>&-'
        environment = {**os.environ, "HOME": directory}
        self.process = subprocess.Popen(
            ["bash", "-c", shell, "bash", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            pass_fds=high,
            env=environment,
        )
        for fd in high:
            os.close(fd)
        self.buffer = b""
        self.number = 0
        self.handlers = []

    def close(self):
        try:
            self.call("Browser.close")
        except (OSError, RuntimeError):
            pass
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def version(self):
        return self.call("Browser.getVersion")["product"]

    def call(self, method, session=None, **params):
        self.number += 1
        number = self.number
        message = {"id": number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        return self.wait(lambda got: got.get("id") == number, method)

    def wait(self, is_it, what):
        deadline = time.monotonic() + PATIENCE
        while True:
            got = self.receive(deadline, what)
            for handler in self.handlers:
                handler(got)
            if is_it(got):
                if "error" in got:
                    raise RuntimeError(f"{what}: {got['error']}")
                return got.get("result", got.get("params"))

    def receive(self, deadline, what):
        while b"\0" not in self.buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.events], [], [], left)[0]:
                raise RuntimeError(f"{what}: the browser says nothing for {PATIENCE} s")
            piece = os.read(self.events, 1 << 16)
            if not piece:
                raise RuntimeError(f"{what}: the browser has ended")
            self.buffer += piece
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)


class Page:
    """A page in a profile of its own."""

    def __init__(self, browser):
        self.browser = browser
        self.context = browser.call("Target.createBrowserContext")["browserContextId"]
        target = browser.call("Target.createTarget", url="about:blank", browserContextId=self.context)
        attached = browser.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self.session = attached["sessionId"]
        self.call("Page.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.browser.handlers.clear()
        self.browser.call("Target.disposeBrowserContext", browserContextId=self.context)

    def call(self, method, **params):
        return self.browser.call(method, session=self.session, **params)

    def open(self, url):
        """As if the user had typed it."""
        self.call("Page.navigate", url=url)
        self.loaded()

    def open_forged(self, url, html):
        """Shows this as the answer of that URL: what the name led to before it was rebound."""
        self.call("Fetch.enable", patterns=[{"urlPattern": url}])

        def answer(got):
            if got.get("method") == "Fetch.requestPaused":
                self.browser.number += 1
                fulfil = {
                    "requestId": got["params"]["requestId"],
                    "responseCode": 200,
                    "responseHeaders": [{"name": "Content-Type", "value": "text/html"}],
                    "body": base64.b64encode(html.encode()).decode(),
                }
                message = {
                    "id": self.browser.number,
                    "method": "Fetch.fulfillRequest",
                    "params": fulfil,
                    "sessionId": self.session,
                }
                os.write(self.browser.commands, json.dumps(message).encode() + b"\0")

        self.browser.handlers.append(answer)
        self.open(url)
        self.browser.handlers.remove(answer)
        self.call("Fetch.disable")

    def loaded(self):
        self.browser.wait(lambda got: got.get("method") == "Page.loadEventFired", "loading")

    def run(self, script):
        """The value of an expression, whose promise is awaited."""
        got = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in got:
            raise RuntimeError(f"the page failed: {got['exceptionDetails']}")
        return got["result"].get("value")
