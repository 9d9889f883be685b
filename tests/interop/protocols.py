"""Protocols that are more than requests and answers: each with a client and a server of its own, all at once."""

import asyncio
import signal
import sys
import traceback

import abuse
import rpc
import websocket
from sidecar import TokenService

CHECKS = {
    "websockets": websocket.run,
    "gRPC": rpc.run,
    "abuse of HTTP/2": abuse.run,
}


async def main():
    binary = sys.argv[1]
    # So that no sidecar outlives us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    failed = False
    outcomes = await asyncio.gather(
        *(check(binary, TokenService()) for check in CHECKS.values()), return_exceptions=True
    )
    for name, outcome in zip(CHECKS, outcomes):
        if isinstance(outcome, BaseException):
            failed = True
            traceback.print_exception(outcome)
        else:
            print(f"interop: {name}: {outcome}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
