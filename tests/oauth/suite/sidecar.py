"""One sidecar: its process, its configuration, and what it says of itself."""

import asyncio
import datetime
import json
import subprocess
import time

from .servers.server import OPENER


class Sidecar:
    def __init__(self, binary, client, directory, upstream):
        self.binary, self.name, self.directory = binary, client.name, directory
        self.log = directory / f"{client.name}.log"
        settings = {
            "listen.address": "127.0.0.1:0", "admin.address": "127.0.0.1:0", "upstream.url": upstream,
            "log.format": "json", "log.access": "off", **client.settings,
        }
        self.environment = {
            f"AUTH_SIDECAR_{key.upper().replace('.', '__')}": str(value) for key, value in settings.items()
        }
        self.process = None

    async def start(self, environment):
        """Waits for its first token; returns the seconds that it took, or why there is none."""
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [self.binary, "run"], env={**self.environment, **environment}, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, cwd=self.directory,
            )
        end = time.monotonic() + 15
        while time.monotonic() < end and self.process.poll() is None:
            lines = {line["message"]: line for line in self.lines()}
            if "got a token" in lines and "admin listening" in lines:
                self.address = lines["listening"]["address"]
                self.admin = lines["admin listening"]["address"]
                return seconds_between(lines["auth-sidecar starts"], lines["got a token"])
            await asyncio.sleep(0.01)
        failures = [line for line in self.lines() if line["level"] in ("WARN", "ERROR")]
        return json.dumps(failures[-1]) if failures else f"ended with {self.process.poll()}"

    def lines(self):
        """What it has logged, as far as the lines are whole."""
        whole = self.log.read_text("utf-8", "replace").rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def status(self):
        with OPENER.open(f"http://{self.admin}/status", timeout=5) as answer:
            return json.load(answer)

    def doctor(self):
        """What an operator would be told now."""
        done = subprocess.run(
            [self.binary, "doctor"], env=self.environment, capture_output=True, text=True, timeout=60, check=False,
            cwd=self.directory,
        )
        return done.stdout + done.stderr

    def stop(self):
        """Ends it as an operator would; returns its exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def seconds_between(first, second):
    moments = [datetime.datetime.fromisoformat(line["timestamp"].replace("Z", "+00:00")) for line in (first, second)]
    return (moments[1] - moments[0]).total_seconds()
