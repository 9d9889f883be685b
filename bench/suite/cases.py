"""The cases, and the order in which everything is measured."""

import re
import subprocess
import sys
import time
from dataclasses import dataclass
from statistics import median

from .tools import BENCH

IDLE = 2000


@dataclass(frozen=True)
class Case:
    name: str
    title: str
    path: str = "/small"
    connections: int = 32
    scheme: str = "http"
    fields: tuple = ()
    script: str = ""


#: Beside Host, Content-Type and Content-Length of the load: ten, as a client with tracing sends.
FIELDS = (
    "Accept: application/json",
    "Accept-Encoding: gzip, deflate",
    "Accept-Language: en",
    "Cache-Control: no-cache",
    "User-Agent: metrics-agent/1.28.3 (linux; amd64)",
    "X-Request-Id: 3f2c8a51-94d0-4c0e-8b77-0d6c1f5e9a24",
    "Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
)

CASES = [
    Case("get32", "GET, 32 connections"),
    Case("get1", "GET, 1 connection", connections=1),
    Case("get256", "GET, 256 connections", connections=256),
    Case("get512", "GET, 512 connections", connections=512),
    Case("post", "POST 2 KiB", path="/length", script="post.lua"),
    Case("post10", "POST 2 KiB, ten fields", path="/length", script="post.lua", fields=FIELDS),
    Case("get64k", "GET 64 KiB", path="/64k"),
    Case("get16m", "GET 16 MiB", path="/16m", connections=2),
    Case("https", "https upstream, GET", scheme="https"),
    Case("https64k", "https upstream, GET 64 KiB", path="/64k", scheme="https"),
    Case("close", "no keep-alive", fields=("Connection: close",)),
]
#: A process of its own a round: time to the first answer, memory, idle connections.
FRESH = Case("idle2000", f"GET, 32 connections, {IDLE:,} idle")
TITLES = {case.name: case.title for case in [*CASES, FRESH]}
NAMES = list(TITLES)


def chosen(names):
    names = names.split(",") if names else NAMES
    for name in names:
        if name not in NAMES:
            sys.exit(f"no case {name}; there are {', '.join(NAMES)}")
    return names


def measure(machine, subjects, names, rounds, seconds):
    """Round by round, so that what the machine does meanwhile meets all subjects alike.

    The result: load[case][subject][figure] and once[subject][figure], a list of one value a round.
    """
    cases = [case for case in CASES if case.name in names]
    results = {"subjects": [[subject.name, subject.kind] for subject in subjects], "load": {}, "once": {}, "failed": []}
    running = {}
    for subject in subjects:
        for scheme in sorted({case.scheme for case in cases}):
            if scheme == "http" or subject.has_https:
                running[subject, scheme] = machine.start(subject.name, subject.launcher(scheme))
                # What a process needs only once is not counted as the cost of a request.
                load(running[subject, scheme], FRESH, 1)
    for number in range(rounds):
        order = subjects[number % len(subjects):] + subjects[: number % len(subjects)]
        for case in cases:
            for subject in order:
                if (subject, case.scheme) in running:
                    figures = load(running[subject, case.scheme], case, seconds)
                    note(results, case, subject, figures, number, rounds)
        if FRESH.name in names:
            for subject in order:
                if not subject.is_variant:
                    once, figures = fresh(machine, subject, seconds)
                    note(results, FRESH, subject, figures, number, rounds)
                    keep(results["once"].setdefault(subject.name, {}), once)
    if cases:
        # After everything, and some time for an allocator to give back what it wants to.
        time.sleep(2)
        for (subject, scheme), proxy in running.items():
            if scheme == "http":
                keep(results["once"].setdefault(subject.name, {}), {"loaded_mib": proxy.resident_mib()})
    return results


def note(results, case, subject, figures, number, rounds):
    keep(results["load"].setdefault(case.name, {}).setdefault(subject.name, {}), figures)
    if figures["failed"]:
        results["failed"].append(f"{subject.name}, {case.title}: {figures['failed']}")
    print(
        f"round {number + 1}/{rounds}  {case.title:32} {subject.name:14}"
        f" {figures['us']:10.2f} µs/request {figures['rate']:9.0f} /s"
        f"  p50 {figures['p50']:8.2f} ms  p99 {figures['p99']:8.2f} ms  {figures['failed']}",
        file=sys.stderr,
    )


def keep(lists, figures):
    for name, value in figures.items():
        lists.setdefault(name, []).append(value)


def load(proxy, case, seconds):
    """One measurement: processor time per request is that of the proxy's whole process tree."""
    proxy.prime(min(case.connections, 64))
    command = ["wrk", "-t1", f"-c{case.connections}", f"-d{seconds}s", "--latency", "--timeout", "20s"]
    for field in [*proxy.fields, *case.fields]:
        command += ["-H", field]
    if case.script:
        command += ["-s", str(BENCH / case.script)]
    before = proxy.processor_seconds()
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{proxy.port}{case.path}"], capture_output=True, text=True, check=True
    )
    used = proxy.processor_seconds() - before
    text = done.stdout
    requests = int(re.search(r"(\d+) requests in", text).group(1))
    failed = re.findall(r"(Non-2xx.*|Socket errors:.*)", text)
    return {
        "us": used / max(requests, 1) * 1e6,
        "rate": float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1)),
        "p50": milliseconds(text, 50),
        "p99": milliseconds(text, 99),
        "failed": "; ".join(failed),
    }


def milliseconds(text, percentile):
    value, unit = re.search(rf"^\s+{percentile}%\s+([\d.]+)(us|ms|s|m)$", text, re.MULTILINE).groups()
    return float(value) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000}[unit]


def fresh(machine, subject, seconds):
    """A process that has done nothing yet: start, idle memory, idle connections, load beside them."""
    ready = []
    for _ in range(3):
        proxy = machine.start(subject.name, subject.launcher("http"))
        ready.append(proxy.ready * 1000)
        if len(ready) < 3:
            proxy.stop()
    time.sleep(0.5)
    idle = proxy.resident_mib()
    # One connection after another: not the idle ones are counted, but what any connection needs once.
    for connection in proxy.open(20):
        connection.close()
    time.sleep(0.2)
    before = proxy.resident_mib()
    connections = proxy.open(IDLE)
    time.sleep(0.5)
    per_connection = (proxy.resident_mib() - before) * 1024 / IDLE
    figures = load(proxy, FRESH, seconds)
    for connection in connections:
        connection.close()
    proxy.stop()
    return {"ready_ms": median(ready), "idle_mib": idle, "kib_per_connection": per_connection}, figures
