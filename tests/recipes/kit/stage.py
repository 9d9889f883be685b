"""A recipe's stage: the page, the services, the sidecar, the tool, the faults that are played, and the verdict."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from pathlib import Path

from . import install, verdict
from .faults import ROUND, Faults
from .page import Page
from .process import tool_environment, wait_until
from .services import Instance, TokenService
from .sidecar import Sidecar, binary

FULL, SHORT = ROUND, 26
SKIPPED = 77


class Stage:
    """One run of a recipe. `with Stage("curl") as stage:` ends everything that was started in it."""

    def __init__(self, name):
        options = argparse.ArgumentParser(description=f"Runs docs/recipes/{name}.md.")
        options.add_argument("--short", action="store_true", help=f"{SHORT} s instead of {FULL}")
        options.add_argument("--seconds", type=float, help="how long the tool is used")
        options.add_argument("--keep", action="store_true", help="keeps the folder with all logs")
        chosen = options.parse_args()
        self.name, self.keep = name, chosen.keep
        self.seconds = chosen.seconds or (SHORT if chosen.short else FULL)
        self.page = Page(name)
        self.folder = Path(tempfile.mkdtemp(prefix=f"recipe-{name}-"))
        self.version = None
        self.tokens = self.instance = self.sidecar = None
        self.sidecars = []
        self.processes = {}
        self.workers = []
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.sent, self.arrived = Counter(), Counter()
        self.problems, self.failures, self.notes = [], [], []
        self.faults = None
        self.demo = None
        self.once = True

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        for process in [*self.processes.values(), *([self.demo] if self.demo else [])]:
            if process.poll() is None:
                process.kill()
                process.wait()
        for sidecar in self.sidecars:
            sidecar.kill()
        code = None
        if kind is install.Missing:
            print(json.dumps({"name": self.name, "verdict": "skipped", "why": str(error)}))
            code = SKIPPED
        elif kind is not None and kind is not SystemExit:
            traceback.print_exception(error)
            self.show_logs()
            print(json.dumps({"name": self.name, "version": self.version, "verdict": "failed", "why": repr(error)}))
            code = 1
        if self.keep:
            print(f"kept: {self.folder}", file=sys.stderr)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)
        if code is not None:
            # A worker that still waits for its tool does not keep a run alive that is over.
            sys.stdout.flush()
            os._exit(code)

    # What runs.

    def start(self, block="auth-sidecar.toml", demo=False, client=None, certificate=None):
        """Both services and the sidecar with the page's block; returns the local token of `client`.

        `certificate` is the client that `auth-sidecar local-ca` makes a certificate for.
        """
        self.tokens = TokenService()
        self.instance = Instance(self.tokens, self.start_demo() if demo else None)
        self.sidecar = Sidecar(self.page.block(block), self.folder, self.tokens, self.instance.url, certificate)
        self.sidecars.append(self.sidecar)
        token = self.sidecar.local_token(client) if client else None
        self.instance.never.update(self.sidecar.local_tokens.values())
        self.sidecar.start()
        self.faults = Faults(self.name, self.tokens, self.sidecars)
        return token

    def start_another(self, block, upstream, client):
        """A second sidecar, beside that of `start`, with the same identity; it meets the same faults."""
        folder = self.folder / Path(block).stem
        folder.mkdir()
        sidecar = Sidecar(self.page.block(block), folder, self.tokens, upstream)
        token = sidecar.local_token(client)
        self.instance.never.add(token)
        sidecar.start()
        self.sidecars.append(sidecar)
        return sidecar, token

    def start_demo(self):
        """The embedded instance, by the sidecar of `auth-sidecar demo`; returns its URL."""
        output = self.folder / "demo.log"
        with output.open("wb") as log:
            self.demo = subprocess.Popen(
                [binary(), "demo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"], env={}, cwd=self.folder,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )

        def address():
            lines = output.read_text().splitlines()
            return next((line.split()[0] for line in lines if "  the sidecar: " in line), None)

        wait_until(lambda: address() and "Ctrl-C stops" in output.read_text(), 10, "no demo")
        return address()

    def spawn(self, name, *arguments, environment=None, cwd=None, input=False, output=False):
        """Starts a part of the tool; what it says goes to NAME.log.

        A recipe that talks with it asks for a pipe as its `input`, and as its `output`.
        """
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [str(argument) for argument in arguments], env=tool_environment(environment), cwd=cwd or self.folder,
                stdin=subprocess.PIPE if input else subprocess.DEVNULL, stdout=subprocess.PIPE if output else log, stderr=log,
            )
        self.processes[name] = process
        return process

    def said(self, name):
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def run(self, *arguments, environment=None, input=None, timeout=60, cwd=None):
        """Runs a command of the tool to its end."""
        return subprocess.run(
            [str(argument) for argument in arguments], env=tool_environment(environment), input=input,
            capture_output=True, text=True, timeout=timeout, cwd=cwd or self.folder,
        )

    def terminate(self, name, timeout=30):
        """Asks a part of the tool to stop, and waits for it."""
        process = self.processes[name]
        if process.poll() is None:
            process.terminate()
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.problem(f"{name} did not stop within {timeout} s")
            process.kill()
            return process.wait()

    def use(self, work, *arguments):
        """Calls `work` again and again until the play is over, beside everything else."""

        def worker():
            while not self.stopping.is_set():
                try:
                    work(*arguments)
                except Exception:
                    self.problem(f"{work.__name__}: {traceback.format_exc()}")
                    return

        thread = threading.Thread(target=worker, daemon=True)
        thread.start()
        self.workers.append(thread)

    def pause(self, seconds):
        self.stopping.wait(seconds)

    def play(self):
        """Uses the tool for as long as the run lasts, and plays all faults in each minute of it."""
        self.faults.play(self.seconds)

    def settle(self, arrivals, timeout=60, once=True):
        """Ends the use, then waits until everything that was sent has arrived, as `arrivals` counts it.

        Where the tool does not promise `once`, what came again is counted and no problem.
        """
        self.once = once
        self.stopping.set()
        for worker in self.workers:
            worker.join(timeout)
            if worker.is_alive():
                self.problem("the tool still hangs after its use has ended")
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            self.arrived = Counter(arrivals())
            if not self.sent - self.arrived:
                break
            time.sleep(0.2)

    # What came of it.

    def send(self, key):
        with self.lock:
            self.sent[key] += 1

    def problem(self, text):
        with self.lock:
            self.problems.append(text)

    def fail(self, text):
        """The tool said that something failed: allowed while a fault is on, and a little after it."""
        with self.lock:
            self.failures.append((time.monotonic(), text))

    def check(self, condition, text):
        if not condition:
            self.problem(text)

    def note(self, text):
        self.notes.append(text)

    def finish(self, at_least=1):
        """Prints the row of the table, and ends the program with the verdict."""
        row = verdict.row(self, at_least)
        for sidecar in self.sidecars:
            sidecar.stop()
        if self.problems:
            self.show_logs()
            self.show_arrivals()
        verdict.show(self)
        print(json.dumps(row))
        sys.stdout.flush()
        self.__exit__(None, None, None)
        # A worker that still waits for its tool does not keep a run alive that is over.
        os._exit(1 if self.problems else 0)

    def show_arrivals(self):
        """The last of each kind of request, to see how it differs from what was expected."""
        kinds = {}
        for request in self.instance.taken:
            kinds[request.method, request.query.get("format") or request.query.get("f") or request.path[:20]] = request
        for request in kinds.values():
            print(f"--- {request.method} {request.target[:200]}: {request.content[:300]}", file=sys.stderr)

    def show_logs(self):
        for path in sorted(self.folder.rglob("*.log")):
            lines = path.read_text(errors="replace").splitlines()[-40:]
            print(f"--- {path.name}\n" + "\n".join(lines), file=sys.stderr)
