"""What every server here can do: start, stop, run by another clock, answer for a token, and change a client."""

import base64
import contextlib
import json
import os
import secrets
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field

from ..keys import replace

#: Characters that HTTP Basic, forms and JSON each treat in their own way.
AWKWARD = "+/%:&=~"


@dataclass
class Client:
    """A client of the server, and the keys of the sidecar that is to be it."""

    name: str
    method: str
    settings: dict
    #: The file with its secret or key.
    file: object = None
    #: What the server knows of it: a secret, a public key, a subject.
    known: object = None
    extra: dict = field(default_factory=dict)


class Server:
    NAME = ""
    #: A line about the version, for the report.
    version = ""
    #: Of its tokens, in seconds.
    LIFETIME = 8
    #: The same while it is restarted, where that takes longer.
    RESTART_LIFETIME = None
    #: How long it may take to start.
    PATIENCE = 60
    #: Whether libfaketime reaches it. Where not, the sidecar's clock is moved the other way.
    FAKED = True

    def __init__(self, tools, directory, keys):
        self.tools, self.directory, self.keys = tools, directory, keys
        self.port, self.tls_port, self.own_port = free_port(), free_port(), free_port()
        self.process, self.skew = None, 0
        self.log = directory / "server.log"

    # What a server has to say for itself.

    def command(self):
        """Its command line and environment."""
        raise NotImplementedError

    def prepare(self, public, public_tls):
        """Makes its configuration; `public` is the address under which sidecars reach it."""
        raise NotImplementedError

    def clients(self):
        """The clients; called once, when it runs."""
        raise NotImplementedError

    def change(self, client, known):
        """Gives a client another secret, key or subject."""
        raise NotImplementedError

    def enable(self, client, enabled):
        raise NotImplementedError

    def introspect(self, token):
        """Whether it is good, and its end in seconds since 1970."""
        raise NotImplementedError

    def set_lifetime(self, seconds):
        raise NotImplementedError

    # What they have in common.

    def start(self, skew=0):
        command, environment = self.command()
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.directory), **environment}
        if skew and self.FAKED:
            environment |= self.tools.faketime(skew)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory
            )
        end = time.monotonic() + self.PATIENCE
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise SystemExit(f"{self.NAME} ended at once:\n{self.tail()}")
            with contextlib.suppress(OSError, ValueError, KeyError):
                if self.ready():
                    self.skew = skew if self.FAKED else 0
                    return
            time.sleep(0.05)
        raise SystemExit(f"{self.NAME} is not ready after {self.PATIENCE} s:\n{self.tail()}")

    def ready(self):
        socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        return True

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def tail(self):
        return self.log.read_text("utf-8", "replace")[-4000:]

    def rotate(self, client):
        """The server first, and the file after it: the worse order. Returns what swaps the file."""
        if client.method == "private_key_jwt":
            new = f"{client.name}-{secrets.token_hex(4)}.pem"
            known = self.keys.signing_key(new)
            known["kid"] = client.known["kid"]
            text = self.keys.path(new).read_text()
        elif client.method == "tls_client_auth":
            new = f"{client.name}-{secrets.token_hex(4)}"
            self.keys.certificate(new, new)
            known = f"CN={new}"
            self.change(client, known)
            pair = {client.file: f"{new}.pem", client.extra["key_file"]: f"{new}-key.pem"}
            client.known = known
            return lambda: [replace(file, self.keys.path(name).read_text()) for file, name in pair.items()]
        else:
            known = text = new_secret()
        self.change(client, known)
        client.known = known
        return lambda: replace(client.file, text)

    def make(self, name, method, token_url=None, issuer=None, **more):
        """A client with a credential of its own, for `clients`. With an issuer it looks for the token endpoint."""
        settings = {
            "auth.type": "oauth2-client-credentials", "auth.client_id": name, "auth.client_auth": method,
            **({"auth.issuer": issuer} if issuer else {"auth.token_url": token_url}), **more,
        }
        file = self.directory / f"{name}.secret"
        extra = {}
        if method == "private_key_jwt":
            known = self.keys.signing_key(f"{name}.pem")
            replace(file, self.keys.path(f"{name}.pem").read_text())
            settings |= {"auth.private_key_file": file, "auth.key_id": known["kid"]}
        elif method == "tls_client_auth":
            self.keys.certificate(name, name)
            known, extra["key_file"] = f"CN={name}", self.directory / f"{name}-key.secret"
            replace(file, self.keys.path(f"{name}.pem").read_text())
            replace(extra["key_file"], self.keys.path(f"{name}-key.pem").read_text())
            settings |= {
                "auth.client_cert_file": file, "auth.client_key_file": extra["key_file"],
                "auth.ca_file": self.keys.path("ca.pem"),
            }
        else:
            known = new_secret()
            replace(file, known)
            settings["auth.client_secret_file"] = file
        return Client(name, method, settings, file, known, extra)


def new_secret():
    return secrets.token_urlsafe(12) + AWKWARD + secrets.token_urlsafe(12)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def ask(method, url, body=None, form=None, basic=None, fields=None):
    """One call of an API: JSON or a form in, JSON (or None) out."""
    request = urllib.request.Request(url, method=method)
    if basic is not None:
        pair = ":".join(urllib.parse.quote_plus(part) for part in basic)
        request.add_header("Authorization", "Basic " + base64.b64encode(pair.encode()).decode())
    for name, value in (fields or {}).items():
        request.add_header(name, value)
    if form is not None:
        request.data = urllib.parse.urlencode(form).encode()
    elif body is not None:
        request.add_header("Content-Type", "application/json")
        request.data = json.dumps(body).encode()
    try:
        with OPENER.open(request, timeout=60) as answer:
            text = answer.read()
    except urllib.error.HTTPError as error:
        raise ValueError(f"{method} {url}: {error.code} {error.read()[:500]!r}") from error
    return json.loads(text) if text.strip() else None


#: Everything here is local; a proxy of the environment has no part in it.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
