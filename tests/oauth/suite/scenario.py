"""What happens to a server while requests come."""

import asyncio
import contextlib
import time
from dataclasses import dataclass, field

from .instance import Instance
from .load import Load
from .relay import Relay
from .sidecar import Sidecar

#: Between the change of a secret at the server and that of its file.
ROTATION_GAP = 1.0
#: How long clients are disabled; longer than their tokens live.
DISABLED = 20
#: How long they may be without a token after that.
PATIENCE = 60
#: How far clocks are apart.
SKEW = 60


@dataclass
class Phase:
    """A stretch of a run. In one that is clean nothing but success counts, for there was no reason for else."""

    name: str
    is_clean: bool
    #: Whether the service has a reason to refuse a token that was good.
    may_refuse: bool
    began: float = field(default_factory=time.monotonic)
    ended: float = 0.0
    notes: list = field(default_factory=list)


class Scenario:
    def __init__(self, server, options, directory):
        self.server, self.options, self.directory = server, options, directory
        self.instance = Instance(server)
        self.relays, self.clients, self.sidecars, self.loads = [], [], [], []
        #: What the judge reads: the phases, the first tokens, and what went wrong beside the requests.
        self.phases, self.first, self.problems, self.words = [], {}, [], {}

    async def run(self):
        try:
            await self.prepare()
            await self.renewals()
            await self.rotation()
            await self.disabled()
            await self.restart()
            for skew in (SKEW, -SKEW):
                await self.clock(skew)
        except (OSError, ValueError) as error:
            # What was seen until then counts all the same.
            self.problems.append(f"not carried through: {error!r}")
        finally:
            await self.finish()

    @contextlib.asynccontextmanager
    async def phase(self, name, is_clean=True, may_refuse=False):
        phase = Phase(name, is_clean, may_refuse)
        self.phases.append(phase)
        try:
            yield phase
        finally:
            phase.ended = time.monotonic()

    async def prepare(self):
        server = self.server
        await self.instance.start()
        for port in (server.port, server.tls_port):
            relay = Relay(port)
            await relay.start()
            self.relays.append(relay)
        plain, tls = (relay.port for relay in self.relays)
        await asyncio.to_thread(server.prepare, f"http://127.0.0.1:{plain}", f"https://127.0.0.1:{tls}")
        await asyncio.to_thread(server.start)
        self.clients = await asyncio.to_thread(server.clients)
        if self.options.clients:
            self.clients = [client for client in self.clients if client.name in self.options.clients]
        await self.begin({})

    async def begin(self, environment):
        """All sidecars with their load, but for those that get no token."""
        for client in self.clients:
            sidecar = Sidecar(self.options.binary, client, self.directory, self.instance.url)
            came = await sidecar.start(environment)
            if isinstance(came, str):
                self.problems.append(f"{client.name}: no first token after {len(self.phases)} phases: {came}")
                (self.directory / f"{client.name}.doctor").write_text(await asyncio.to_thread(sidecar.doctor))
                await asyncio.to_thread(sidecar.stop)
                continue
            self.first.setdefault(client.name, came)
            self.sidecars.append(sidecar)
        if not self.sidecars:
            raise ValueError("no sidecar has got a token")
        for sidecar in self.sidecars:
            load = Load(sidecar.name, sidecar.address, self.options.rate / len(self.sidecars))
            load.start()
            self.loads.append(load)

    async def end(self):
        await asyncio.gather(*(load.stop() for load in self.loads))
        for sidecar in self.sidecars:
            if (code := await asyncio.to_thread(sidecar.stop)) != 0:
                self.problems.append(f"{sidecar.name} ended with {code}")
        self.sidecars.clear()

    async def renewals(self):
        async with self.phase("renewals"):
            await asyncio.sleep(self.options.seconds)

    async def rotation(self):
        async with self.phase("secret rotated"):
            for client in self.clients:
                swap = await asyncio.to_thread(self.server.rotate, client)
                asyncio.get_running_loop().call_later(ROTATION_GAP, swap)
            await asyncio.sleep(self.options.seconds)

    async def disabled(self):
        async with self.phase("client disabled", is_clean=False, may_refuse=True):
            for client in self.clients:
                await asyncio.to_thread(self.server.enable, client, False)
            await asyncio.sleep(DISABLED)
            for sidecar in self.sidecars:
                self.words[sidecar.name] = [await asyncio.to_thread(sidecar.status), ""]
        if self.options.doctor:
            # A program of its own, with calls of its own: in no phase.
            for sidecar in self.sidecars:
                self.words[sidecar.name][1] = await asyncio.to_thread(sidecar.doctor)
        async with self.phase("enabled again", is_clean=False, may_refuse=True):
            for client in self.clients:
                await asyncio.to_thread(self.server.enable, client, True)
            end = time.monotonic() + PATIENCE
            while time.monotonic() < end and not all(self.serves(load) for load in self.loads):
                await asyncio.sleep(0.05)
            await asyncio.sleep(2)

    @staticmethod
    def serves(load):
        return bool(load.outcomes) and load.outcomes[-1].status == 200

    async def restart(self):
        await self.lengthen()
        async with self.phase("server restarted", may_refuse=True) as phase:
            await self.anew(phase, 0)
            await asyncio.sleep(self.options.seconds)

    async def clock(self, skew):
        """The server by another clock: what was granted before has ended, or its end is far away."""
        if self.server.FAKED:
            await self.lengthen()
            async with self.phase(f"server's clock {skew:+d} s", may_refuse=True) as phase:
                await self.anew(phase, skew)
                await asyncio.sleep(self.options.seconds)
            return
        await self.end()
        moved = self.server.tools.faketime(-skew)
        await self.begin(moved)
        async with self.phase(f"sidecar's clock {-skew:+d} s"):
            await asyncio.sleep(self.options.seconds)

    async def lengthen(self):
        """Tokens that last for as long as the server will be away."""
        if self.server.RESTART_LIFETIME:
            await asyncio.to_thread(self.server.set_lifetime, self.server.RESTART_LIFETIME)
            await asyncio.sleep(self.server.LIFETIME)

    async def anew(self, phase, skew):
        began = time.monotonic()
        await asyncio.to_thread(self.server.stop)
        await asyncio.to_thread(self.server.start, skew)
        phase.notes.append(f"away for {time.monotonic() - began:.1f} s")
        if self.server.RESTART_LIFETIME:
            await asyncio.to_thread(self.server.set_lifetime, self.server.LIFETIME)

    async def finish(self):
        await self.end()
        for relay in self.relays:
            relay.stop()
        self.instance.stop()
        await asyncio.to_thread(self.server.stop)
