"""An `auth-sidecar` that runs the configuration of a page: file for file, with the addresses and paths of the test."""

import os
import re
import signal
import socket
import subprocess
import time
import tomllib
from pathlib import Path

from .install import ROOT
from .server import free_port
from .services import get, get_json

# Longer than listen.drain_timeout.
STOP = 30


def binary():
    """The program: AUTH_SIDECAR, or the release or debug build of this tree, whichever is newer."""
    chosen = os.environ.get("AUTH_SIDECAR")
    if chosen:
        return chosen
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    built = [path for path in (target / kind / "auth-sidecar" for kind in ("release", "debug")) if path.exists()]
    if not built:
        raise SystemExit("no auth-sidecar: cargo build --release, or set AUTH_SIDECAR")
    return str(max(built, key=lambda path: path.stat().st_mtime))


class Sidecar:
    """The program with the page's configuration; the environment says only where things are on this machine."""

    def __init__(self, text, folder, tokens, upstream, certificate=None):
        self.program, self.folder, self.tokens = binary(), Path(folder), tokens
        self.settings = tomllib.loads(text)
        self.file = self.folder / "auth-sidecar.toml"
        self.file.write_text(text)
        self.secret_file = self.folder / "client-secret"
        self.clients_file = self.folder / "clients"
        self.log_file = self.folder / "auth-sidecar.log"
        self.local_tokens = {}
        self.process = None
        self.admin = f"http://127.0.0.1:{free_port()}"
        # Sockets that a service manager would hold, while the sidecar restarts too.
        self.held = {}
        self.listen = [self.place(address) for address in as_list(self.settings["listen"]["address"])]
        self.environment = {"AUTH_SIDECAR_ADMIN__ADDRESS": self.admin.removeprefix("http://")}
        self.set("listen.address", ",".join(self.listen))
        self.set("upstream.url", upstream)
        self.set("auth.client_id", tokens.client_id)
        self.set("auth.client_secret_file", self.secret_file)
        for key, value in (
            ("auth.org_id", tokens.org_id),
            ("auth.token_url", f"{tokens.url}/oauth2/token"),
            ("listen.client_tokens_file", self.clients_file),
            ("broker.client_tokens_file", self.clients_file),
            ("broker.address", f"127.0.0.1:{free_port()}"),
            ("listen.tls_cert_file", self.folder / "tls" / "cert.pem"),
            ("listen.tls_key_file", self.folder / "tls" / "key.pem"),
            ("listen.tls_client_ca_file", self.folder / "tls" / "ca.pem"),
        ):
            if self.has(key):
                self.set(key, value)
        if not self.has("auth.token_url"):
            self.environment["AUTH_SIDECAR_AUTH__BASE_URL"] = tokens.url
        self.write_secret(tokens.secret)
        if self.has("listen.tls_cert_file"):
            clients = ["--client", certificate] if certificate else []
            self.command("local-ca", "--dir", self.folder / "tls", *clients)

    def place(self, address):
        """A free port or a path of this test, of the same kind as the page's address."""
        if address.startswith("systemd:"):
            self.held[address.removeprefix("systemd:")] = socket.create_server(("127.0.0.1", 0), backlog=1024)
            return address
        kind = "tls:" if address.startswith("tls:") else ""
        if address.startswith("unix:"):
            return f"unix:{self.folder / Path(address).name}"
        return f"{kind}127.0.0.1:{free_port()}"

    def has(self, key):
        section, _, name = key.partition(".")
        return name in self.settings.get(section, {})

    def set(self, key, value):
        """Puts a place of this machine into a key that the page sets."""
        if not self.has(key):
            raise ValueError(f"the page's configuration does not set {key}")
        section, _, name = key.upper().partition(".")
        self.environment[f"AUTH_SIDECAR_{section}__{name}"] = str(value)

    @property
    def address(self):
        """IP:port of plain HTTP."""
        for held in self.held.values():
            return "127.0.0.1:%d" % held.getsockname()[1]
        return next(address for address in self.listen if address[0].isdigit())

    @property
    def tls_port(self):
        return next(address for address in self.listen if address.startswith("tls:")).rpartition(":")[2]

    @property
    def socket_file(self):
        return next(address for address in self.listen if address.startswith("unix:")).removeprefix("unix:")

    @property
    def ca_file(self):
        return self.folder / "tls" / "ca.pem"

    def local_token(self, name):
        """A token by the command that the pages name."""
        token = self.command("local-token", name, "--file", self.clients_file).strip().splitlines()[-1]
        self.local_tokens[name] = token
        return token

    def command(self, *arguments):
        done = subprocess.run(
            [self.program, *map(str, arguments)], env=self.environment, capture_output=True, text=True, timeout=20
        )
        if done.returncode:
            raise AssertionError(f"auth-sidecar {arguments[0]}: {done.stderr}")
        return done.stdout

    def write_secret(self, secret):
        """In one step, as every tool that rotates secrets does."""
        new = self.secret_file.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(secret + "\n")
        new.rename(self.secret_file)

    def start(self):
        with self.log_file.open("ab") as log:
            command = [self.program, "run", "--config", str(self.file)]
            environment, prepare, kept = self.environment, None, ()
            if self.held:
                # As sd_listen_fds(3) has it: descriptors from 3 on, for the process with this id alone.
                command = ["sh", "-c", 'LISTEN_PID=$$ exec "$0" "$@"', *command]
                names = ":".join(self.held)
                environment = {**environment, "LISTEN_FDS": str(len(self.held)), "LISTEN_FDNAMES": names}
                kept = tuple(range(3, 3 + len(self.held)))
                prepare = self.pass_sockets
            self.process = subprocess.Popen(
                command, env=environment, cwd=self.folder, preexec_fn=prepare, pass_fds=kept,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )
        end = time.monotonic() + 15
        while time.monotonic() < end and self.process.poll() is None:
            if self.is_ready():
                return
            time.sleep(0.02)
        raise AssertionError(f"the sidecar is not ready: {self.said()[-3000:]}")

    def pass_sockets(self):
        for number, held in enumerate(self.held.values(), 3):
            os.dup2(held.fileno(), number)

    def is_ready(self):
        try:
            get(f"{self.admin}/readyz", timeout=2)
            return True
        except OSError:
            return False

    def stop(self):
        """As a service manager does; it has to end by itself, with 0."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(STOP)
        if code:
            raise AssertionError(f"the sidecar ended with {code}: {self.said()[-3000:]}")

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def status(self):
        return get_json(f"{self.admin}/status")

    def metric(self, name, label=""):
        pattern = re.compile(rf"^{name}(?:{{([^}}]*)}})? (\S+)$", re.MULTILINE)
        found = pattern.findall(get(f"{self.admin}/metrics"))
        return sum(float(value) for labels, value in found if label in labels)

    def said(self):
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def secrets_said(self):
        """Kinds of credentials that its log holds; there must be none."""
        said = self.said()
        kinds = {"the client secret": "recipe-secret-", "an access token": "recipe-token-"}
        found = [kind for kind, text in kinds.items() if text in said]
        return found + [f"the local token of {name}" for name, token in self.local_tokens.items() if token in said]


def as_list(value):
    return value if isinstance(value, list) else [value]
