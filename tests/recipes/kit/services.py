"""The token service and the service instance of a recipe: strict ones, whose faults are played on demand."""

import base64
import json
import re
import secrets
import threading
import time
import urllib.error
import urllib.request
from urllib.parse import parse_qsl

from .server import Response, Server, json_response

LIFETIME = 3
AUTHORIZE = "/csp/gateway/am/api/auth/authorize"
TOKEN = "/oauth2/token"
# What clients send on the way of the service, and the sidecar has to take away.
OTHER_CREDENTIALS = ("x-auth-token", "csp-auth-token", "proxy-authorization")


class TokenService:
    """Grants tokens that live for three seconds: to OAuth apps as VMware Cloud Services, or by RFC 6749 §4.4."""

    def __init__(self):
        self.client_id = "recipe-app"
        self.secret = new_secret()
        self.org_id = "8d6e7f5a-4b3c-4d2e-9f10-112233445566"
        self.granted = {}
        self.refused = 0
        self.lock = threading.Lock()
        self.server = Server(self.answer)
        self.url = self.server.url

    def answer(self, request):
        if request.method != "POST" or request.path not in (AUTHORIZE, TOKEN):
            return json_response({"message": "no such resource", "statusCode": 404}, 404)
        form = dict(parse_qsl(request.body.decode()))
        pair = base64.b64encode(f"{self.client_id}:{self.secret}".encode()).decode()
        good_form = form.get("grant_type") == "client_credentials" and form.get("orgId", self.org_id) == self.org_id
        if request.all("authorization") != [f"Basic {pair}"] or not good_form:
            with self.lock:
                self.refused += 1
            return json_response({"error": "invalid_client", "message": "invalid credentials", "statusCode": 401}, 401)
        with self.lock:
            number = len(self.granted) + 1
            token = f"recipe-token-{number}-{secrets.token_urlsafe(96)}"
            self.granted[token] = (number, time.monotonic() + LIFETIME)
        return json_response({"access_token": token, "token_type": "bearer", "expires_in": LIFETIME})

    def number_of(self, token):
        """The number of a token that is alive, or None."""
        number, ends = self.granted.get(token, (None, 0))
        return number if time.monotonic() < ends else None

    def rotate(self):
        """The old secret is worth nothing from now on; returns the new one."""
        self.secret = new_secret()
        return self.secret

    def go_away(self):
        self.server.stop()

    def come_back(self):
        self.server.start()


class Instance:
    """A service instance that takes one live token and nothing else, records what it took, and answers by routes.

    What no route of the recipe answers goes on to the embedded instance of `auth-sidecar demo`, where there is one.
    """

    def __init__(self, tokens, demo=None):
        self.tokens, self.demo = tokens, demo
        self.routes = []
        self.taken = []
        self.problems = []
        self.unauthorized = 0
        self.token_numbers = set()
        self.never = set()
        self.lock = threading.Lock()
        self.server = Server(self.answer)
        self.url = self.server.url

    def route(self, method, pattern, answer):
        """`answer(request, *groups)` for requests whose path is the pattern; the last one that fits is taken."""
        self.routes.insert(0, (method, re.compile(pattern), answer))

    def answer(self, request):
        number = self.authenticate(request)
        if number is None:
            with self.lock:
                self.unauthorized += 1
            return refusal(401, "the access token is missing, unknown or expired")
        with self.lock:
            self.token_numbers.add(number)
        for method, pattern, answer in self.routes:
            found = pattern.fullmatch(request.path)
            if found and method in (request.method, "*"):
                # Taken is what is answered well: a client sends the rest again.
                response = answer(request, *found.groups()) or Response(202)
                return self.take(request, response)
        if self.demo:
            return self.take(request, self.relay(request))
        self.problem(f"unexpected {request.method} {request.path}")
        return refusal(404, "no such resource")

    def take(self, request, response):
        if response.status < 300:
            with self.lock:
                self.taken.append(request)
        return response

    def authenticate(self, request):
        for name in OTHER_CREDENTIALS:
            if request.all(name):
                self.problem(f"{name} reached the instance ({request.method} {request.path})")
        shown = [value for _, value in request.fields] + [request.target]
        if any(secret in value for secret in self.never for value in shown):
            self.problem(f"a local token reached the instance ({request.method} {request.path})")
        values = request.all("authorization")
        if len(values) != 1:
            self.problem(f"{len(values)} Authorization fields ({request.method} {request.path})")
        return self.tokens.number_of(values[0].removeprefix("Bearer ")) if values else None

    def relay(self, request):
        fields = {
            name: value for name, value in request.fields
            if name.lower() in ("content-type", "content-encoding", "accept")
        }
        sent = urllib.request.Request(
            self.demo + request.target, data=request.body or None, headers=fields, method=request.method
        )
        try:
            with OPENER.open(sent, timeout=20) as answer:
                return Response(answer.status, answer.read(), {"Content-Type": answer.headers.get("Content-Type", "")})
        except urllib.error.HTTPError as error:
            if error.code == 404 and b"no such resource" in (body := error.read()):
                self.problem(f"the embedded instance has no {request.method} {request.path}")
                return refusal(404, "no such resource")
            body = error.read() if error.code != 404 else body
            return Response(error.code, body, {"Content-Type": error.headers.get("Content-Type", "")})

    def problem(self, text):
        with self.lock:
            self.problems.append(text)

    def matching(self, method, pattern):
        """What was taken with this method and path, in the order in which it came."""
        with self.lock:
            taken = list(self.taken)
        path = re.compile(pattern)
        return [request for request in taken if method in (request.method, "*") and path.fullmatch(request.path)]


OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def envelope(value):
    """A response of the API: its status and the value."""
    return json_response({"status": {"result": "OK", "message": "", "code": 200}, "response": value})


def refusal(status, message):
    return json_response({"status": {"result": "ERROR", "message": message, "code": status}}, status)


def new_secret():
    return f"recipe-secret-{secrets.token_urlsafe(24)}"


def get(url, timeout=10):
    """The body of a page of this machine, without any proxy of the environment."""
    with OPENER.open(url, timeout=timeout) as answer:
        return answer.read().decode()


def get_json(url):
    return json.loads(get(url))
