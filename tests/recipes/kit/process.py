"""Processes of a tool: their environment, and waiting for what they do."""

import os
import socket
import time


def tool_environment(more=None):
    """That of the user, without what would lead a tool past the sidecar or give it credentials of its own."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "JAVA_HOME", "TMPDIR") if name in os.environ}
    return {**kept, "NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost", **(more or {})}


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition, seconds, complaint):
    """Waits for a condition; a complaint that tells of what was seen last is made by a function."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise AssertionError(complaint() if callable(complaint) else complaint)
        time.sleep(0.02)
    return found
