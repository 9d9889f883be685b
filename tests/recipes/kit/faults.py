"""The faults of a recipe, and when each of them was on."""

import sys
import time

from .process import wait_until
from .services import LIFETIME

# All faults are played in each minute.
ROUND = 60
# What the tool may still fail with after a fault is over: its own pause until it tries again.
AFTERMATH = 4


class Faults:
    """Plays the faults, one after the other, and knows whether one was on at a moment."""

    def __init__(self, name, tokens, sidecars):
        self.name, self.tokens, self.sidecars = name, tokens, sidecars
        self.began = None
        self.windows = []

    def play(self, seconds):
        self.began = time.monotonic()
        rounds = max(1, round(seconds / ROUND))
        for number in range(rounds):
            self.play_round(number * seconds / rounds, seconds / rounds)

    def play_round(self, start, seconds):
        unit = (seconds - 2 * LIFETIME) / 10
        self.until(start + 2 * unit)
        with Fault(self, "the token service away for two lifetimes"):
            self.tokens.go_away()
            time.sleep(2 * LIFETIME)
            self.tokens.come_back()
            # The sidecar's own pause between attempts grows to some seconds meanwhile.
            for sidecar in self.sidecars:
                wait_until(sidecar.is_ready, 20, "the sidecar did not get a token again")
        self.until(start + 5 * unit + 2 * LIFETIME)
        with Fault(self, "the secret rotated"):
            secret = self.tokens.rotate()
            refused = self.tokens.refused
            wait_until(lambda: self.tokens.refused > refused, 10, "the old secret was not tried")
            for sidecar in self.sidecars:
                sidecar.write_secret(secret)
                granted = len(self.tokens.granted)
                wait_until(lambda: len(self.tokens.granted) > granted, 10, "the new secret was not used")
        self.until(start + 8 * unit + 2 * LIFETIME)
        with Fault(self, "the sidecar restarted"):
            for sidecar in self.sidecars:
                sidecar.stop()
                sidecar.start()
        self.until(start + seconds)

    def until(self, at):
        time.sleep(max(0, self.began + at - time.monotonic()))

    def excuses(self, moment):
        """Whether a failure at this moment is a fault's."""
        return any(start <= moment <= end + AFTERMATH for start, end in self.windows)


class Fault:
    """The time in which a fault is on."""

    def __init__(self, faults, name):
        self.faults, self.name = faults, name

    def __enter__(self):
        self.start = time.monotonic()
        # While it is on, its end is not known.
        self.faults.windows.append((self.start, float("inf")))

    def __exit__(self, *_):
        end, began = time.monotonic(), self.faults.began
        self.faults.windows[-1] = (self.start, end)
        print(
            f"{self.faults.name}: {self.start - began:5.1f} s to {end - began:5.1f} s: {self.name}", file=sys.stderr
        )
