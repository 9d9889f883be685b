"""Cores, the instance and the token service, and the processes of the subjects."""

import base64
import contextlib
import json
import os
import platform
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

CORES = sorted(os.sched_getaffinity(0))[:2]
#: The proxy has this core for itself.
PROXY_CORE = CORES[0]
#: Instance, token service, load and this program share the other.
LOAD_CORE = CORES[-1]
TICKS = os.sysconf("SC_CLK_TCK")


class Machine:
    """What runs during the whole measurement: the instance, and what was started before it."""

    def __init__(self, directory, binaries):
        self.directory = directory
        self.binaries = binaries
        self.stack = contextlib.ExitStack()

    def __enter__(self):
        os.sched_setaffinity(0, {LOAD_CORE})
        command = [self.binaries.paths["instance"], "serve", str(self.directory)]
        instance = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.stack.callback(end, instance)
        ports = dict(word.split("=") for word in instance.stdout.readline().split())
        self.ports = {scheme: int(port) for scheme, port in ports.items()}
        self.ca_file = self.directory / "ca.pem"
        #: The token of the subjects that cannot get one by themselves.
        self.token = self.issue("fixed")
        return self

    def __exit__(self, *error):
        return self.stack.__exit__(*error)

    def issue(self, client):
        basic = base64.b64encode(f"{client}:secret".encode()).decode()
        url = f"http://127.0.0.1:{self.ports['http']}/oauth2/token"
        request = urllib.request.Request(url, b"grant_type=client_credentials")
        request.add_header("Authorization", f"Basic {basic}")
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
            return json.load(answer)["access_token"]

    def start(self, name, launch):
        """Starts a proxy on its core and waits for its first good answer."""
        directory = self.directory / f"{name}-{time.monotonic_ns()}"
        directory.mkdir()
        directory.chmod(0o777)
        port = free_port()
        command, environment, fields = launch(self, directory, port)
        log = open(directory / "log", "w+b")
        os.sched_setaffinity(0, {PROXY_CORE})
        began = time.monotonic()
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={"PATH": os.environ["PATH"], **environment}
            )
        finally:
            os.sched_setaffinity(0, {LOAD_CORE})
        self.stack.callback(end, process)
        proxy = Proxy(name, process, port, fields)
        while True:
            with contextlib.suppress(OSError, ValueError):
                proxy.check()
                break
            if process.poll() is not None or time.monotonic() - began > 20:
                log.seek(0)
                raise SystemExit(f"{name} gives no good answer:\n{log.read().decode()[-3000:]}")
            time.sleep(0.0005)
        proxy.ready = time.monotonic() - began
        return proxy


class Proxy:
    """A subject at work."""

    def __init__(self, name, process, port, fields):
        self.name = name
        self.process = process
        self.port = port
        #: What a client has to send: nothing, but to the relay, which puts no token on a request.
        self.fields = fields
        self.ready = 0.0

    def stop(self):
        end(self.process)

    def request(self, path="/small", method="GET", body=b""):
        fields = "".join(f"{field}\r\n" for field in self.fields)
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n{fields}{length}\r\n"
        return head.encode() + body

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def check(self):
        """Sends one request; a ValueError unless the instance says that the credential was right."""
        with self.connect() as connection:
            connection.sendall(self.request())
            self.receive(connection)

    @staticmethod
    def receive(connection):
        answer = b""
        while b'"}}' not in answer:
            piece = connection.recv(65536)
            answer += piece
            if not piece or not answer.startswith(b"HTTP/1.1 200 "[: len(answer)]):
                raise ValueError(answer)
        if b'"credential":"eyJ' not in answer:
            raise ValueError(answer)

    def open(self, count):
        """Connections that have had one good answer each and are idle now."""
        connections = []
        for _ in range(count):
            connection = self.connect()
            connection.sendall(self.request())
            self.receive(connection)
            connections.append(connection)
        return connections

    def prime(self, count):
        """Has the proxy open as many upstream connections as the load that follows will need."""
        connections = [self.connect() for _ in range(count)]
        for connection in connections:
            connection.sendall(self.request())
        for connection in connections:
            self.receive(connection)
            connection.close()

    def tree(self):
        """The ids of the process and of all below it."""
        children = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                pid, parent = int(stat.parent.name), int(stat.read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(pid)
        found = [self.process.pid]
        for pid in found:
            found.extend(children.get(pid, []))
        return found

    def processor_seconds(self):
        """User and system time of the tree so far, of all threads, also of those that ended."""
        ticks = 0
        for pid in self.tree():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(value) for value in fields[11:15])
        return ticks / TICKS

    def resident_mib(self):
        total = 0
        for pid in self.tree():
            status = Path(f"/proc/{pid}/status").read_text()
            total += int(status.partition("VmRSS:")[2].split()[0])
        return total / 1024


def end(process):
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def description():
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release()}"
