"""Lets all clients work at once through the sidecar, then compares what was sent with what arrived."""

import json
import logging
import re
import sys
import threading
import time
import traceback
import urllib.request
from collections import Counter

import clients
from wire import Wire

WORKERS = {
    "wavefront-api-client 1": clients.Management,
    "wavefront-api-client 2": clients.Management,
    "wavefront-sdk factory": clients.Ingestion.from_factory,
    "wavefront-sdk token": clients.Ingestion.with_token,
    "wavefront-sdk older": clients.Ingestion.older,
    "curl 1": clients.Curl,
    "curl 2": clients.Curl,
    "curl slow": clients.Patient,
    "httpx": clients.Http2,
}


def main():
    proxy, admin, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    wire = Wire()
    wire.install()
    # The SDK only logs that it lost a batch.
    logging.getLogger().addHandler(Problems(wire))

    stop = threading.Event()
    cycles = Counter()
    workers = [
        # As daemons they cannot keep a failed run alive.
        threading.Thread(target=work, args=(name, make, wire, proxy, stop, cycles), daemon=True)
        for name, make in WORKERS.items()
    ]
    arrivals, tokens = Arrivals(wire, proxy), Tokens(wire, proxy)
    for worker in workers:
        worker.start()
    end = time.monotonic() + seconds
    while time.monotonic() < end or any(worker.is_alive() for worker in workers):
        if time.monotonic() >= end:
            stop.set()
        arrivals.look()
        tokens.look()
        time.sleep(0.1)
    arrivals.look()

    compare(wire, arrivals.seen)
    for name in WORKERS:
        if not cycles[name]:
            wire.problem(f"{name} did not finish a single cycle")
    tokens.check(seconds)
    generation, refreshes, unauthorized = ask_admin(wire, admin, seconds)

    print(f"interop: {sum(wire.calls.values())} calls in {seconds:.0f} s: {dict(wire.calls)}")
    print(f"interop: cycles {dict(cycles)}")
    print(f"interop: {wire.reported.total()} bodies sent, {arrivals.seen.total()} arrived, {arrivals.bytes} bytes")
    print(
        f"interop: tokens seen {len(tokens.numbers)}, generation {generation}, "
        f"refreshes {refreshes:.0f}, 401s of the instance {unauthorized:.0f}"
    )
    for text, count in Counter(wire.problems).most_common(20):
        print(f"interop: PROBLEM ({count} times): {text}", file=sys.stderr)
    return 1 if wire.problems else 0


def work(name, make, wire, proxy, stop, cycles):
    try:
        client = make(wire, proxy)
        while not stop.is_set():
            client.cycle()
            cycles[name] += 1
        client.close()
    except Exception:
        wire.problem(f"{name}: {traceback.format_exc()}")


class Problems(logging.Handler):
    def __init__(self, wire):
        super().__init__(logging.ERROR)
        self.wire = wire

    def emit(self, record):
        self.wire.problem(record.getMessage())


class Arrivals:
    """Follows what the instance received; it remembers the last 256 bodies only."""

    def __init__(self, wire, proxy):
        self.wire, self.proxy = wire, proxy
        self.seen, self.last, self.bytes = Counter(), 0, 0

    def look(self):
        received = get_json(f"{self.proxy}/demo/received?after={self.last}")
        self.bytes = received["bytes"]
        for report in received["reports"]:
            if report["number"] != self.last + 1:
                self.wire.problem("reports were forgotten before they were looked at")
            self.last = report["number"]
            key = (report["target"], report["contentEncoding"], report["length"], report["crc32"])
            self.seen[key] += 1


class Tokens:
    """Which token reached the instance, request after request."""

    def __init__(self, wire, proxy):
        self.wire, self.proxy = wire, proxy
        self.numbers, self.last = set(), 0

    def look(self):
        number = get_json(f"{self.proxy}/demo/whoami")["token"]
        if number < self.last:
            self.wire.problem(f"token {number} was used after token {self.last}")
        self.last = number
        self.numbers.add(number)

    def check(self, seconds):
        if len(self.numbers) < seconds / 3 - 1:
            self.wire.problem(f"only {len(self.numbers)} tokens were used")


def compare(wire, seen):
    for what, difference in (
        ("was sent but did not arrive as sent", wire.reported - seen),
        ("arrived but was not sent so", seen - wire.reported),
    ):
        for key, count in difference.items():
            wire.problem(f"{count} times {what}: {key}")


def ask_admin(wire, admin, seconds):
    """The generation of the token, the renewals that worked, and the 401s of the instance."""
    metrics = get(f"{admin}/metrics")
    generation = find(get_json(f"{admin}/status"), "generation") or 0
    refreshes = total(metrics, "auth_sidecar_token_refresh_total", 'result="success"')
    if generation < seconds / 3 - 1:
        wire.problem(f"/status shows generation {generation} only")
    if refreshes < seconds / 3 - 1:
        wire.problem(f"/metrics shows {refreshes} renewals only")
    return generation, refreshes, total(metrics, "auth_sidecar_upstream_unauthorized_total")


def find(value, name):
    """The first member with this name, however deep."""
    if isinstance(value, dict):
        if name in value:
            return value[name]
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            if (found := find(part, name)) is not None:
                return found
    return None


def total(metrics, name, label=""):
    pattern = re.compile(rf"^{name}(?:{{([^}}]*)}})? (\S+)$", re.MULTILINE)
    return sum(float(value) for labels, value in pattern.findall(metrics) if label in labels)


def get(url):
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read().decode()


def get_json(url):
    return json.loads(get(url))


if __name__ == "__main__":
    sys.exit(main())
