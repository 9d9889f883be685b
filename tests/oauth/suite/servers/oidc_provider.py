"""The npm package oidc-provider: all methods, resource indicators, and token exchange.

Its tokens live in memory: after a restart it knows none of them.
"""

import json

from ..jwt import verify
from ..keys import replace
from .server import Server, ask, new_secret


class OidcProvider(Server):
    NAME = "oidc-provider"

    def prepare(self, public, public_tls):
        self.public, self.public_tls = public, public_tls
        self.state = {"lifetime": self.LIFETIME, "clients": {}}
        self.disabled = {}
        self.introspector = new_secret()
        self.version = "npm oidc-provider " + self.tools.versions["oidc-provider"]
        self.modulus = self.keys.modulus("server-signing.pem")
        self.register("introspector", "client_secret_basic", self.introspector, grant_types=[])

    def command(self):
        script = self.tools.paths["oidc-provider"]
        return [
            self.tools.paths["node"], script, str(self.directory / "state.json"), self.public, str(self.port),
            str(self.tls_port), str(self.keys.folder),
        ], {"NODE_NO_WARNINGS": "1"}

    def clients(self):
        url, tls_url = f"{self.public}/token", f"{self.public_tls}/token"
        scope = {"auth.scopes": "metrics"}
        made = [
            self.make("basic", "client_secret_basic", url, **scope),
            self.make("post", "client_secret_post", issuer=self.public, **scope),
            self.make("private-key", "private_key_jwt", url, **scope),
            self.make("certificate", "tls_client_auth", tls_url, **scope),
            self.make("resource", "client_secret_basic", url, **scope, **{
                "auth.endpoint_params": '{ resource = "urn:metrics" }'}),
        ]
        for client in made:
            self.register(client.name, client.method, client.known)
        return [*made, self.exchange(url)]

    def exchange(self, url):
        """A client that exchanges the token of another (RFC 8693)."""
        secret, subject = new_secret(), self.directory / "subject"
        self.register("subject", "client_secret_basic", secret)
        said = ask("POST", url, form={"grant_type": "client_credentials", "scope": "metrics", "resource": "urn:metrics"},
                   basic=("subject", secret))
        replace(subject, said["access_token"])
        client = self.make("exchange", "client_secret_basic", url, **{
            "auth.type": "oauth2-token-exchange", "auth.subject_token_file": subject,
            "auth.subject_token_type": "access_token",
        })
        self.register(client.name, client.method, client.known)
        return client

    def register(self, name, method, known, grant_types=None):
        usual = "urn:ietf:params:oauth:grant-type:token-exchange" if name == "exchange" else "client_credentials"
        about = {
            "client_id": name, "grant_types": [usual] if grant_types is None else grant_types, "redirect_uris": [], "response_types": [],
            "token_endpoint_auth_method": method, "scope": "metrics",
        }
        if method == "private_key_jwt":
            about["jwks"] = {"keys": [known]}
        elif method == "tls_client_auth":
            about["tls_client_auth_subject_dn"] = known
        else:
            about["client_secret"] = known
        self.state["clients"][name] = about
        self.save()

    def save(self):
        replace(self.directory / "state.json", json.dumps(self.state))

    def change(self, client, known):
        self.register(client.name, client.method, known)

    def enable(self, client, enabled):
        """It has no switch for this: a client is there, or is not."""
        if enabled:
            self.state["clients"][client.name] = self.disabled.pop(client.name)
        else:
            self.disabled[client.name] = self.state["clients"].pop(client.name)
        self.save()

    def set_lifetime(self, seconds):
        self.state["lifetime"] = seconds
        self.save()

    def introspect(self, token):
        if token.count(".") == 2:
            # That of a resource server is not for introspection.
            claims = verify(token, self.modulus)
            return claims is not None and claims["aud"] == "urn:metrics", claims["exp"] if claims else 0
        said = ask("POST", f"http://127.0.0.1:{self.port}/token/introspection", form={"token": token},
                   basic=("introspector", self.introspector))
        return said["active"], said.get("exp", 0)
