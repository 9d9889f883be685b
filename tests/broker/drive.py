"""Runs the programs of docs/broker.md by the blocks of that page, and counts what a strict service refuses them."""

import hashlib
import http.client
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from sidecar import TokenService

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "broker.md"
LOCAL_TOKEN = "sidecar_local-token-of-the-test"
# Requests in a second, of each of the gateways.
RATE = 20


def block(name):
    """The configuration of that name, as the page has it."""
    text = PAGE.read_text()
    found = re.search(rf"<!-- tests/broker/run: {re.escape(name)} -->\n```\w+\n(.*?)^```", text, re.S | re.M)
    if not found:
        raise AssertionError(f"{PAGE} has no block for {name}")
    return found.group(1)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Service:
    """The service: knows which tokens are good, and keeps account of every request by who sent it."""

    def __init__(self, tokens):
        self.statuses = defaultdict(Counter)
        self.tokens = defaultdict(set)
        self.refused = []
        self.lock = threading.Lock()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def answer(self):
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                who = service.who(self.path)
                try:
                    token = tokens.accept(self.headers.get_all("Authorization") or [])
                    status, reason = 200, None
                except AssertionError as why:
                    token, status, reason = None, 401, str(why)
                with service.lock:
                    service.statuses[who][status] += 1
                    if token:
                        service.tokens[who].add(token)
                    if reason:
                        service.refused.append(f"{who}: {self.command} {self.path}: {reason}")
                body = b"up 1\n"
                self.send_response(status)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = answer

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        # Clients end their connections as they please.
        self.server.handle_error = lambda *_: None
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @staticmethod
    def who(path):
        if path.startswith("/report"):
            return "wavefront-sdk-python"
        if path == "/metrics":
            return "prometheus scrape"
        if path.startswith("/api/v1/write"):
            return "prometheus remote_write"
        return path.split("/")[1]


class Programs:
    """The processes of a run; all of them end with it."""

    def __init__(self, directory):
        self.directory = directory
        self.running = {}

    def start(self, name, command, **options):
        log = open(self.directory / f"{name}.log", "wb")
        self.running[name] = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, **options)

    def said(self, name):
        return (self.directory / f"{name}.log").read_text(errors="replace")[-3000:]

    def check(self):
        for name, process in self.running.items():
            if process.poll() is not None:
                raise AssertionError(f"{name} ended with {process.returncode}: {self.said(name)}")

    def stop(self):
        for process in reversed(self.running.values()):
            process.terminate()
        for process in self.running.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for(what, condition, within=15):
    end = time.monotonic() + within
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"still not: {what}")
        time.sleep(0.05)


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def is_ready(admin):
    try:
        connection = http.client.HTTPConnection("127.0.0.1", admin, timeout=5)
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False


def main():
    binary, seconds = sys.argv[1], float(sys.argv[2])
    directory = pathlib.Path(tempfile.mkdtemp(prefix="broker-"))
    programs = Programs(directory)
    try:
        return run(binary, seconds, directory, programs)
    finally:
        programs.stop()
        shutil.rmtree(directory)


def run(binary, seconds, directory, programs):
    tokens = TokenService()
    service = Service(tokens)
    ports = {name: free_port() for name in ["9799", "8080", "8081", "8082", "8083"]}
    admin, proxy = free_port(), free_port()
    runtime = directory / "run"
    runtime.mkdir()
    clients = directory / "clients"
    clients.write_text(f"driven:{hashlib.sha256(LOCAL_TOKEN.encode()).hexdigest()}\n")

    def placed(name, text):
        """The text of the page, with the places of this run for those of the page."""
        for there, here in [
            ("LOCAL-TOKEN", LOCAL_TOKEN),
            ("/run/auth-sidecar", str(runtime)),
            ("/etc/auth-sidecar/broker-clients", str(clients)),
            ("/etc/haproxy/token.lua", str(directory / "token.lua")),
            ("https://example.wavefront.com", f"http://127.0.0.1:{service.port}"),
            ("example.wavefront.com:443 ssl verify required ca-file @system-ca sni str(example.wavefront.com)",
             f"127.0.0.1:{service.port}"),
            ("address: example.wavefront.com, port_value: 443", f"address: 127.0.0.1, port_value: {service.port}"),
            ("scheme: https", "scheme: http"),
            ("[example.wavefront.com]", f'["127.0.0.1:{service.port}"]'),
            *((f"127.0.0.1:{port}", f"127.0.0.1:{free}") for port, free in ports.items()),
            *((f"port_value: {port} ", f"port_value: {free} ") for port, free in ports.items()),
        ]:
            text = text.replace(there, here)
        path = directory / name
        path.write_text(text)
        return path

    config = placed("sidecar.toml", f"""
[listen]
address = "127.0.0.1:{proxy}"
[admin]
address = "127.0.0.1:{admin}"
[upstream]
url = "http://127.0.0.1:{service.port}"
[auth]
type = "oauth2-client-credentials"
token_url = "{tokens.url}"
client_id = "driven"
client_secret = "the-real-secret"
""" + block("sidecar.toml"))
    programs.start("sidecar", [binary, "run", "--config", str(config)], env={})
    wait_for("the sidecar is ready", lambda: programs.check() or is_ready(admin))
    wait_for("there is a token file", (runtime / "token").exists)

    gateways = {}
    missing = []
    if binary_of("nginx"):
        site = placed("site.conf", block("nginx.conf"))
        paths = "".join(
            f"{kind}_temp_path {directory}/{kind};" for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        )
        user = "user root;" if os.geteuid() == 0 else ""
        nginx = directory / "nginx.conf"
        nginx.write_text(
            f"{user} daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log stderr warn;"
            f"events {{ worker_connections 1024; }} http {{ access_log off; {paths} include {site}; }}"
        )
        programs.start("nginx", [binary_of("nginx"), "-c", str(nginx), "-p", str(directory)])
        gateways["nginx"] = ports["8080"]
    else:
        missing.append("nginx")
    if binary_of("haproxy"):
        placed("token.lua", block("token.lua"))
        haproxy = placed("haproxy.cfg", block("haproxy.cfg"))
        programs.start("haproxy", [binary_of("haproxy"), "-db", "-f", str(haproxy)])
        gateways["haproxy-file"] = ports["8081"]
        gateways["haproxy-broker"] = ports["8082"]
    else:
        missing.append("haproxy")
    envoy = next(pathlib.Path(sys.prefix).glob("lib/python*/site-packages/envoy/_bin/envoy"), None)
    if envoy:
        # The service of a test speaks no TLS; what is about that is the last of the block.
        bootstrap = placed("envoy.yaml", block("envoy.yaml").split("      transport_socket:")[0])
        programs.start("envoy", [envoy, "-c", str(bootstrap), "--concurrency", "1", "--log-level", "warn",
                                 "--use-dynamic-base-id"])
        gateways["envoy"] = ports["8083"]
    else:
        missing.append("envoy")
    expected = set(gateways)
    if binary_of("prometheus"):
        prometheus = placed("prometheus.yml", block("prometheus.yml"))
        programs.start("prometheus", [
            binary_of("prometheus"), f"--config.file={prometheus}", f"--storage.tsdb.path={directory}/tsdb",
            f"--web.listen-address=127.0.0.1:{free_port()}",
        ])
        expected |= {"prometheus scrape", "prometheus remote_write"}
    else:
        missing.append("prometheus")
    for name, port in gateways.items():
        wait_for(f"{name} listens", lambda port=port: programs.check() or listens(port))

    stop = threading.Event()
    answers = defaultdict(Counter)
    threads = [
        threading.Thread(target=drive, args=(name, port, stop, answers[name]), daemon=True)
        for name, port in gateways.items()
    ]
    for by in ["app", "api-token"]:
        threads.append(threading.Thread(target=report, args=(by, service.port, ports["9799"], stop), daemon=True))
    expected.add("wavefront-sdk-python")
    threads.append(threading.Thread(
        target=script, args=(binary, directory, ports["9799"], service.port, stop, answers["auth-sidecar token"]),
        daemon=True,
    ))
    expected.add("script")
    for thread in threads:
        thread.start()
    # The time counts from when each of them has got through: some take long to start on a busy machine.
    wait_for("each program has sent something", lambda: programs.check() or expected <= set(service.statuses), 60)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        programs.check()
        time.sleep(0.5)
    stop.set()
    for thread in threads:
        thread.join(20)
    programs.check()
    counted = metrics(admin)
    programs.running["sidecar"].send_signal(signal.SIGTERM)
    programs.running["sidecar"].wait(20)
    said = (directory / "sidecar.log").read_text(errors="replace")

    problems = []
    for name in missing:
        print(f"broker: {name} is not installed here: not driven")
    for who in sorted(service.statuses):
        statuses, seen = service.statuses[who], service.tokens[who]
        print(f"broker: {who}: {dict(statuses)} of the service, {len(seen)} tokens")
    for who, counts in answers.items():
        print(f"broker: {who}: {dict(counts)} to its clients")
        # An answer may be late; never wrong.
        if set(counts) - {200}:
            problems.append(f"{who}: {dict(counts)}")
    for who in expected:
        # Every other token at least; remote_write sends every five seconds.
        if len(service.tokens[who]) < seconds / (15 if who.endswith("write") else 6):
            problems.append(f"{who} used {len(service.tokens[who])} tokens in {seconds:.0f} s")
    total = sum(statuses.total() for statuses in service.statuses.values())
    refused = sum(statuses[401] for statuses in service.statuses.values())
    print(f"broker: {total} requests in {seconds:.0f} s, {len(tokens.granted)} tokens granted, {refused} times 401")
    problems += service.refused[:10]
    if refused:
        problems.append(f"{refused} times 401")
    by_auth = set().union(*(service.tokens[name] for name in gateways if name != "haproxy-file"))
    problems += account(said, counted, len(by_auth))
    if any(token in said for token in tokens.granted) or LOCAL_TOKEN in said:
        problems.append("a token is in the log")
    programs.stop()
    if list(runtime.iterdir()):
        problems.append(f"left behind: {list(runtime.iterdir())}")
    for problem in problems:
        print(f"broker: PROBLEM: {problem}", file=sys.stderr)
    return 1 if problems else 0


def metrics(admin):
    """What the sidecar has counted of the broker, by endpoint; the files as one of their own."""
    connection = http.client.HTTPConnection("127.0.0.1", admin, timeout=5)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    counted = {
        endpoint: int(count)
        for endpoint, count in re.findall(r'_broker_tokens_total\{client="driven",endpoint="(\w+)"\} (\d+)', text)
    }
    counted["file"] = int(re.search(r'_broker_file_writes_total\{result="success"\} (\d+)', text)[1])
    return counted


def account(said, counted, by_auth):
    """Compares the lines of the access log with what was counted, and with the tokens that came by /auth."""
    lines = Counter(re.findall(r" client\.name=driven .* token\.endpoint=(\w+) ", said))
    lines["file"] = len(re.findall(r" token file file\.path=\S+/run/token token\.generation=", said))
    for endpoint, count in sorted(counted.items()):
        print(f"broker: {endpoint}: {count} counted, {lines[endpoint]} lines in the access log")
    # /auth has a line for each token and client, and the last one may not have been used. The others have one
    # for each; the file may be written once more before the end.
    return [
        f"{endpoint}: {counted[endpoint]} counted, {lines[endpoint]} lines in the access log"
        for endpoint in counted
        if not (
            by_auth <= lines[endpoint] <= by_auth + 1
            if endpoint == "auth"
            else counted[endpoint] <= lines[endpoint] <= counted[endpoint] + (endpoint == "file")
        )
    ]


def binary_of(name):
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def drive(name, port, stop, answers):
    """A client of a gateway, on one connection for as long as that lasts."""
    connection = None
    while not stop.is_set():
        try:
            if connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            connection.request("GET", f"/{name}/x", headers={"Authorization": "Bearer dummy", "Host": "localhost"})
            response = connection.getresponse()
            response.read()
            answers[response.status] += 1
            if response.will_close:
                connection.close()
                connection = None
        except (OSError, http.client.HTTPException) as error:
            answers[type(error).__name__] += 1
            connection = None
        stop.wait(1 / RATE)


def report(by, service, broker, stop):
    """The vendor's own client, with the broker as its CSP base URL."""
    from wavefront_sdk.client_factory import WavefrontClientFactory

    factory = WavefrontClientFactory()
    credentials = {"csp_app_id": "any-id", "csp_app_secret": LOCAL_TOKEN}
    if by == "api-token":
        credentials = {"csp_api_token": LOCAL_TOKEN}
    factory.add_client(
        f"http://127.0.0.1:{service}", flush_interval_seconds=1, enable_internal_metrics=False,
        csp_base_url=f"http://127.0.0.1:{broker}/", **credentials,
    )
    client = factory.get_client()
    while not stop.is_set():
        client.send_metric("driven", 1, None, "here", {"by": by})
        client.flush_now()
        stop.wait(0.1)
    client.close()


def script(binary, directory, broker, service, stop, answers):
    """A script that fetches a token for each use."""
    secret = directory / "local-token"
    secret.write_text(LOCAL_TOKEN + "\n")
    while not stop.is_set():
        command = [binary, "token", "--broker", f"127.0.0.1:{broker}", "--client-token-file", str(secret)]
        token = subprocess.run(command, env={}, check=True, capture_output=True, text=True).stdout.strip()
        connection = http.client.HTTPConnection("127.0.0.1", service, timeout=10)
        connection.request("GET", "/script", headers={"Authorization": f"Bearer {token}"})
        answers[connection.getresponse().status] += 1
        connection.close()
        stop.wait(0.5)


if __name__ == "__main__":
    sys.exit(main())
