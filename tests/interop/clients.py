"""One class per client. Each `cycle` is a unit of work that has to succeed whatever the tokens do meanwhile."""

import asyncio
import os
import subprocess
import tempfile
import time
import uuid
import warnings

import httpx
import wavefront_api_client as api
from wavefront_api_client.rest import ApiException
from wavefront_sdk.client import WavefrontClient
from wavefront_sdk.client_factory import WavefrontClientFactory
from wavefront_sdk.direct import WavefrontDirectClient
from wavefront_sdk.entities.histogram import histogram_granularity
from wavefront_sdk.entities.tracing.span_log import SpanLog

ROLE = "arn:aws:iam::123456789012:role/interop"
DUMMY = "not-a-token-of-anything"


def check(condition, what):
    if not condition:
        raise AssertionError(what)


class Management:
    """wavefront-api-client. It sends its token as X-AUTH-TOKEN, which the sidecar has to take away."""

    def __init__(self, wire, proxy):
        self.wire = wire
        settings = api.Configuration()
        settings.host = proxy
        settings.api_key["X-AUTH-TOKEN"] = DUMMY
        client = api.ApiClient(settings)
        self.integrations = api.CloudIntegrationApi(client)
        self.ingestion = api.DirectIngestionApi(client)
        self.events = api.EventApi(client)

    def cycle(self):
        self.life_cycle("CLOUDWATCH", "cloud_watch", api.CloudWatchConfiguration)
        self.life_cycle("EC2", "ec2", api.EC2Configuration)
        self.life_cycle(
            "CLOUDTRAIL", "cloud_trail", api.CloudTrailConfiguration,
            bucket_name="bucket", region="us-west-2",
        )
        self.ingestion.report(f="wavefront", body="interop.generated 1 source=interop")
        event = api.Event(name="interop", annotations={"severity": "info"}, start_time=now())
        created = self.events.create_event(body=event).response
        check(created.name == "interop" and created.id, "the event comes back created")

    def life_cycle(self, service, field, settings, **more):
        one = self.integrations
        external_id = one.create_aws_external_id().response
        check(one.get_aws_external_id(external_id).response == external_id, "it is known")

        def definition(name, **fields):
            credentials = api.AWSBaseCredentials(role_arn=ROLE, external_id=external_id)
            detail = settings(base_credentials=credentials, **more)
            return api.CloudIntegration(name=name, service=service, **{field: detail}, **fields)

        made = one.create_cloud_integration(body=definition("interop")).response
        check(made.service == service, "the service is kept")
        check(not (made.disabled or made.deleted or made.in_trash), "it starts enabled")
        check(getattr(made, field).base_credentials.role_arn == ROLE, "the role is kept")
        check(made.created_epoch_millis <= now() + 1000, "its time is a time")
        self.refused(400, one.create_cloud_integration, body=definition("again"))

        check(one.get_cloud_integration(made.id).response.name == "interop", "it can be read")
        check(self.listed(made.id), "it is listed")
        page = one.get_all_cloud_integration(offset=0, limit=1).response
        check(len(page.items) == 1 and page.limit == 1, "a page has its limit")

        changed = definition("renamed", service_refresh_rate_in_mins=10)
        one.update_cloud_integration(made.id, body=changed)
        read = one.get_cloud_integration(made.id).response
        check(read.name == "renamed" and read.service_refresh_rate_in_mins == 10, "updated")
        check(read.created_epoch_millis == made.created_epoch_millis, "still the same one")

        check(one.disable_cloud_integration(made.id).response.disabled, "disabled")
        check(not one.enable_cloud_integration(made.id).response.disabled, "enabled")
        check(one.delete_cloud_integration(made.id, skip_trash=False).response.in_trash, "deleted")
        check(not self.listed(made.id), "what is in the trash is not listed")
        check(not one.undelete_cloud_integration(made.id).response.in_trash, "undeleted")
        check(self.listed(made.id), "it is listed again")
        one.delete_cloud_integration(made.id, skip_trash=True)
        self.refused(404, one.get_cloud_integration, made.id)

    def listed(self, identifier):
        page = self.integrations.get_all_cloud_integration(limit=1000).response
        return any(item.id == identifier for item in page.items)

    def refused(self, status, call, *arguments, **named):
        with self.wire.expecting(status):
            try:
                call(*arguments, **named)
            except ApiException as refusal:
                check(refusal.status == status, f"{refusal.status} instead of {status}")
            else:
                raise AssertionError(f"{call.__name__} has to be refused")

    def close(self):
        pass


class Ingestion:
    """wavefront-sdk-python, by one of the ways to build a client that work over http."""

    def __init__(self, client):
        self.client = client

    @classmethod
    def from_factory(cls, _wire, proxy):
        """No token at all; events go to /report."""
        factory = WavefrontClientFactory()
        factory.add_client(proxy, flush_interval_seconds=1)
        return cls(factory.get_client())

    @classmethod
    def with_token(cls, _wire, proxy):
        """A token that nobody knows; events go to /api/v2/event, labelled gzip though they are plain."""
        return cls(WavefrontClient(proxy, DUMMY, flush_interval_seconds=1))

    @classmethod
    def older(cls, _wire, proxy):
        """The deprecated client, which many programs still use."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return cls(WavefrontDirectClient(proxy, DUMMY, flush_interval_seconds=1))

    def cycle(self):
        sender, moment, tags = self.client, now(), {"datacenter": "dc1", "sign": "ß→"}
        sender.send_metric("interop.power", 42.5, moment, "interop", tags)
        sender.send_delta_counter("interop.delta", 1, "interop", tags)
        sender.send_distribution(
            "interop.latency", [(30, 20), (5.1, 10)], {histogram_granularity.MINUTE},
            moment, "interop", tags,
        )
        sender.send_span(
            "interop.span", moment, 343500, "interop", uuid.uuid1(), uuid.uuid1(), None, None,
            [("application", "interop"), ("service", "test")],
            [SpanLog(moment * 1000, {"level": "info"})],
        )
        sender.send_event("interop.event", moment, moment + 1, "interop", ["env:test"], {"severity": "info"})
        sender.flush_now()
        time.sleep(0.2)

    def close(self):
        self.client.close()
        check(self.client.get_failure_count() == 0, "the client counts no failures")


class Curl:
    """curl, for the corners of HTTP/1 that the other clients do not visit."""

    def __init__(self, wire, proxy):
        self.wire, self.proxy = wire, proxy

    def cycle(self):
        listing = "/api/v2/cloudintegration"
        self.run(listing, 200)
        self.run(listing, 200, "--http1.0")
        self.run(listing, 200, "--http2")
        self.run(listing, 200, "-H", "Authorization: Bearer " + DUMMY, "-H", "Authorization: Basic eA==")
        self.run(listing, 200, "-H", "X-AUTH-TOKEN: " + DUMMY, "-H", "csp-auth-token: " + DUMMY)
        self.run("/no/../such//path%2F?q=a+b%20c", 404, "--path-as-is")
        self.send("/report?f=wavefront", 2048)
        self.send("/report?f=wavefront", 2048, "-H", "Transfer-Encoding: chunked")
        self.send("/report?f=histogram", 1024 * 1024, "-H", "Expect: 100-continue")
        self.send("/report?f=trace", 3 * 1024 * 1024)
        self.send("/report", 0)

    def send(self, target, size, *options):
        body = os.urandom(size)
        with tempfile.NamedTemporaryFile() as file:
            file.write(body)
            file.flush()
            self.run(target, 202, "--data-binary", "@" + file.name, *options)
        self.wire.report(target, None, body)

    def run(self, target, status, *options):
        done = subprocess.run(
            ["curl", "-sS", "--max-time", "20", "-o", os.devnull, "-w", "%{http_code}", *options, self.proxy + target],
            capture_output=True, text=True, check=False,
        )
        if done.returncode:
            self.wire.problem(f"curl {options} {target}: {done.stderr.strip()}")
        else:
            self.wire.call("curl", " ".join(options), target, int(done.stdout), status)

    def close(self):
        pass


class Http2:
    """httpx that speaks HTTP/2 from its first byte, many requests at a time on one connection."""

    def __init__(self, wire, proxy):
        self.wire, self.loop = wire, asyncio.new_event_loop()
        self.client = httpx.AsyncClient(base_url=proxy, http1=False, http2=True, timeout=20, trust_env=False)

    def cycle(self):
        self.loop.run_until_complete(self.calls())

    async def calls(self):
        listing = "/api/v2/cloudintegration"
        await asyncio.gather(
            *(self.run("GET", listing, 200) for _ in range(32)),
            *(self.send("/report?f=wavefront", 2048 + number) for number in range(16)),
            # What a client without the sidecar would send, the sidecar takes away.
            self.run("GET", listing, 200, headers={"authorization": "Bearer " + DUMMY, "x-auth-token": DUMMY}),
            self.run("GET", "/no/such;path?q=a+b%20c", 404),
        )
        # Alone: httpx can wait for ever for a window that another of its requests was told of.
        await self.send("/report?f=trace", 3 * 1024 * 1024)

    async def send(self, target, size):
        body = os.urandom(size)
        await self.run("POST", target, 202, content=body)
        self.wire.report(target, None, body)

    async def run(self, method, target, status, **options):
        answer = await self.client.request(method, target, **options)
        check(answer.http_version == "HTTP/2", answer.http_version)
        self.wire.call("httpx", method, target, answer.status_code, status)

    def close(self):
        self.loop.run_until_complete(self.client.aclose())


class Patient(Curl):
    """Requests that take longer than a token lives."""

    def cycle(self):
        self.run("/demo/slow?ms=4000", 200)


def now():
    return int(time.time() * 1000)
