"""gRPC of the `grpcio` package, client and server, through the sidecar: HTTP/2 without TLS on both sides of it."""

import asyncio
import os
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc

from sidecar import Sidecar

CONCURRENT = 100
# Through two renewals of the token.
LONG = 7.0
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
ERROR = "what went wrong: größer als 100 %\n"


def check(condition, what):
    if not condition:
        raise AssertionError(f"gRPC: {what}")


class Service(grpc.GenericRpcHandler):
    """Methods over bytes; each call is looked at before it is answered."""

    def __init__(self, tokens):
        self.tokens = tokens
        self.lock = threading.Lock()
        self.calls, self.used, self.problems, self.ended = Counter(), set(), Counter(), Counter()

    def service(self, call):
        name = call.method.rpartition("/")[2]
        fields = call.invocation_metadata
        with self.lock:
            self.calls[name] += 1
            try:
                values = [field.value for field in fields if field.key == "authorization"]
                self.used.add(self.tokens.accept(values))
                for key in ("te", "host", "connection", "transfer-encoding"):
                    check(all(field.key != key for field in fields), f"{key} is no metadata")
            except AssertionError as error:
                self.problems[str(error)] += 1
        return {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Download": grpc.unary_stream_rpc_method_handler(self.download),
            "Upload": grpc.stream_unary_rpc_method_handler(self.upload),
            "Both": grpc.stream_stream_rpc_method_handler(self.both),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "FailLate": grpc.unary_stream_rpc_method_handler(self.fail_late),
            "Refuse": grpc.unary_unary_rpc_method_handler(self.refuse),
            "Wait": grpc.unary_stream_rpc_method_handler(self.wait),
        }.get(name)

    def unary(self, request, context):
        asked = [field.value for field in context.invocation_metadata() if field.key == "x-asked-bin"]
        context.send_initial_metadata([("x-first", "before"), ("x-first", "the message")])
        context.set_trailing_metadata([("x-last-bin", b"".join(asked))])
        return request

    def download(self, request, _context):
        for number in range(int(request)):
            yield b"%d" % number

    def upload(self, requests, _context):
        return b"%d" % sum(map(len, requests))

    def both(self, requests, _context):
        for request in requests:
            yield request

    def fail(self, _request, context):
        context.set_trailing_metadata([("x-reason-bin", b"\x00\xff")])
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, ERROR)

    def fail_late(self, request, context):
        yield request
        context.abort(grpc.StatusCode.DATA_LOSS, ERROR)

    def refuse(self, _request, context):
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "not this token")

    def wait(self, request, context):
        ended = threading.Event()
        context.add_callback(ended.set)
        context.add_callback(lambda: self.ended.update([request]))
        yield request
        ended.wait(20)


async def run(binary, tokens):
    return await asyncio.to_thread(drive, binary, tokens)


def drive(binary, tokens):
    service = Service(tokens)
    server = grpc.server(ThreadPoolExecutor(2 * CONCURRENT), handlers=[service], options=OPTIONS)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    settings = {"AUTH_SIDECAR_UPSTREAM__HTTP_VERSION": "2"}
    with Sidecar(binary, tokens, f"http://127.0.0.1:{port}", **settings) as sidecar:
        with grpc.insecure_channel(sidecar.address, options=OPTIONS) as channel:
            client = Client(channel, service)
            with ThreadPoolExecutor() as pool:
                steady = pool.submit(client.stays)
                for part in (client.messages, client.streams, client.errors, client.ends, client.many):
                    part()
                steady.result()
            server.stop(None).wait()
            client.gone()
    check(not service.problems, service.problems)
    check(len(service.used) >= 3, f"{len(service.used)} tokens only")
    return f"{service.calls.total()} calls {dict(service.calls)} with {len(service.used)} tokens"


class Client:
    def __init__(self, channel, service):
        self.service = service
        self.unary = channel.unary_unary("/interop.Echo/Unary")
        self.download = channel.unary_stream("/interop.Echo/Download")
        self.upload = channel.stream_unary("/interop.Echo/Upload")
        self.both = channel.stream_stream("/interop.Echo/Both")
        self.fail = channel.unary_unary("/interop.Echo/Fail")
        self.fail_late = channel.unary_stream("/interop.Echo/FailLate")
        self.refuse = channel.unary_unary("/interop.Echo/Refuse")
        self.wait = channel.unary_stream("/interop.Echo/Wait")
        self.unknown = channel.unary_unary("/interop.Echo/Unknown")

    def messages(self):
        for message in (b"", b"x", os.urandom(100_000), os.urandom(4 << 20)):
            check(self.unary(message, timeout=20) == message, f"{len(message)} bytes come back as they were")
        for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
            check(self.unary(b"y" * 100_000, timeout=20, compression=compression) == b"y" * 100_000, "compressed")
        asked = os.urandom(64)
        # Like every credential of a client, its own ends at the sidecar.
        fields = [("x-asked-bin", asked), ("authorization", "Bearer of-the-client"), ("x-long", "z" * 5000)]
        answer, call = self.unary.with_call(b"m", timeout=20, metadata=fields)
        check([value for key, value in call.initial_metadata() if key == "x-first"] == ["before", "the message"], "fields")
        check(dict(call.trailing_metadata())["x-last-bin"] == asked, "trailers")
        check(call.code() is grpc.StatusCode.OK and answer == b"m", "it is well")

    def streams(self):
        check([int(each) for each in self.download(b"1000", timeout=20)] == list(range(1000)), "all in order")
        parts = [os.urandom(10_000)] * 200
        check(self.upload(iter(parts), timeout=20) == b"2000000", "all is there")
        check(self.upload(iter(()), timeout=20) == b"0", "of nothing, nothing")
        # One after the other: nothing may be held back.
        told = []
        turn = threading.Semaphore(1)

        def ask():
            for number in range(100):
                turn.acquire()
                yield b"%d" % number

        for answer in self.both(ask(), timeout=20):
            told.append(int(answer))
            turn.release()
        check(told == list(range(100)), "a dialogue")

    def errors(self):
        error = self.fails(grpc.StatusCode.FAILED_PRECONDITION, lambda: self.fail(b"", timeout=20))
        check(error.details() == ERROR, f"its words: {error.details()!r}")
        check(dict(error.trailing_metadata())["x-reason-bin"] == b"\x00\xff", "its reason")
        stream = self.fail_late(b"first", timeout=20)
        check(next(stream) == b"first", "what came before the error")
        error = self.fails(grpc.StatusCode.DATA_LOSS, lambda: next(stream))
        check(error.details() == ERROR, f"its words: {error.details()!r}")
        self.fails(grpc.StatusCode.UNIMPLEMENTED, lambda: self.unknown(b"", timeout=20))
        # The refusal of gRPC is a 200 with trailers: no 401, so it is the client's to repeat.
        self.fails(grpc.StatusCode.UNAUTHENTICATED, lambda: self.refuse(b"", timeout=20))
        check(self.service.calls["Refuse"] == 1, "what the server refuses is not repeated")

    def ends(self):
        late = self.wait(b"late", timeout=0.5)
        check(next(late) == b"late", "it has begun")
        self.fails(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: next(late))
        self.until(lambda: self.service.ended[b"late"], "that the time is up")
        unwanted = self.wait(b"unwanted", timeout=20)
        check(next(unwanted) == b"unwanted", "it has begun")
        unwanted.cancel()
        self.fails(grpc.StatusCode.CANCELLED, lambda: next(unwanted))
        self.until(lambda: self.service.ended[b"unwanted"], "that nobody wants it")

    def many(self):
        messages = [b"%d " % number * (number + 1) for number in range(CONCURRENT)]
        calls = [self.unary.future(message, timeout=20) for message in messages]
        check([call.result() for call in calls] == messages, "each has its own answer")
        streams = [self.both(iter([message] * 5), timeout=20) for message in messages]
        for message, stream in zip(messages, streams):
            check(list(stream) == [message] * 5, "each stream is its own")

    def stays(self):
        """Outlives the token that it began with, and so does one stream."""
        end = time.monotonic() + LONG

        def ask():
            while time.monotonic() < end:
                yield b"still here"
                time.sleep(0.1)

        for answer in self.both(ask(), timeout=20):
            check(answer == b"still here" and self.unary(b"and anew", timeout=20) == b"and anew", "it goes on")

    def gone(self):
        self.fails(grpc.StatusCode.UNAVAILABLE, lambda: self.unary(b"", timeout=20))

    def fails(self, code, call):
        try:
            call()
        except grpc.RpcError as error:
            check(error.code() is code, f"{error.code()} instead of {code}: {error.details()}")
            return error
        raise AssertionError(f"gRPC: {code} is due")

    def until(self, condition, what):
        end = time.monotonic() + 10
        while not condition():
            check(time.monotonic() < end, f"the server does not see {what}")
            time.sleep(0.02)
