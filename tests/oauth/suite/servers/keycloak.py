"""Keycloak, from Maven Central; on its development database, by its optimised start. A Java machine by a
false clock is slow and strange: the sidecar's clock moves instead."""

import json
import shutil
import time

from .server import Server, ask, new_secret

ADMIN = "admin"
REALM = "example"
AUTHENTICATORS = {
    "client_secret_basic": "client-secret", "client_secret_post": "client-secret", "private_key_jwt": "client-jwt",
    "tls_client_auth": "client-x509",
}


class Keycloak(Server):
    NAME = "keycloak"
    FAKED = False
    RESTART_LIFETIME = 240
    PATIENCE = 300

    def prepare(self, public, public_tls):
        self.public, self.public_tls = public, public_tls
        self.version = "Keycloak " + self.tools.versions["keycloak"]
        self.password, self.introspector = new_secret(), new_secret()
        self.token, self.token_end = None, 0
        self.admin = f"http://127.0.0.1:{self.port}"
        self.ids = {}
        # Its database is below its home.
        shutil.rmtree(self.tools.paths["keycloak"] / "data", ignore_errors=True)

    def command(self):
        home, keys = self.tools.paths["keycloak"], self.keys
        return [
            str(home / "bin/kc.sh"), "start", "--optimized", "--http-enabled=true", f"--http-port={self.port}",
            f"--https-port={self.tls_port}", "--http-host=127.0.0.1", f"--hostname={self.public}", "--cache=local",
            f"--https-certificate-file={keys.path('server.pem')}", f"--https-certificate-key-file={keys.path('server-key.pem')}",
            f"--truststore-paths={keys.path('ca.pem')}",
        ], {
            "KC_BOOTSTRAP_ADMIN_USERNAME": ADMIN, "KC_BOOTSTRAP_ADMIN_PASSWORD": self.password,
            "JAVA_OPTS_APPEND": "-XX:TieredStopAtLevel=1 -Xmx700m",
        }

    def ready(self):
        return ask("GET", f"{self.admin}/realms/master")["realm"] == "master"

    def clients(self):
        self.call("POST", "", {
            "realm": REALM, "enabled": True, "accessTokenLifespan": self.LIFETIME, "sslRequired": "none",
            "clientProfiles": {}, "clientPolicies": {},
        }, realm=False)
        path = f"/realms/{REALM}/protocol/openid-connect/token"
        made = [
            self.make("basic", "client_secret_basic", self.public + path),
            self.make("post", "client_secret_post", issuer=f"{self.public}/realms/{REALM}"),
            self.make("private-key", "private_key_jwt", self.public + path),
            self.make("certificate", "tls_client_auth", self.public_tls + path),
        ]
        for client in made:
            self.call("POST", "/clients", self.about(client, client.known))
            self.ids[client.name] = self.call("GET", f"/clients?clientId={client.name}")[0]["id"]
        self.call("POST", "/clients", {
            "clientId": "introspector", "secret": self.introspector, "publicClient": False, "serviceAccountsEnabled": True,
            "standardFlowEnabled": False,
        })
        return made

    def about(self, client, known, enabled=True):
        about = {
            "clientId": client.name, "enabled": enabled, "publicClient": False, "serviceAccountsEnabled": True,
            "standardFlowEnabled": False, "clientAuthenticatorType": AUTHENTICATORS[client.method],
        }
        if client.method == "private_key_jwt":
            about["attributes"] = {
                "use.jwks.string": "true", "jwks.string": json.dumps({"keys": [known]}),
                "token.endpoint.auth.signing.alg": "RS256",
            }
        elif client.method == "tls_client_auth":
            about["attributes"] = {"x509.subjectdn": known, "x509.allow.regex.pattern.comparison": "false"}
        else:
            about["secret"] = known
        return about

    def call(self, method, path, body=None, realm=True):
        if time.monotonic() > self.token_end:
            said = ask("POST", f"{self.admin}/realms/master/protocol/openid-connect/token", form={
                "grant_type": "password", "client_id": "admin-cli", "username": ADMIN, "password": self.password})
            self.token, self.token_end = said["access_token"], time.monotonic() + said["expires_in"] / 2
        url = f"{self.admin}/admin/realms" + (f"/{REALM}" if realm else "") + path
        return ask(method, url, body, fields={"Authorization": f"Bearer {self.token}"})

    def start(self, skew=0):
        super().start(skew)
        # What was granted by another clock is of no use.
        self.token_end = 0

    def change(self, client, known):
        self.call("PUT", f"/clients/{self.ids[client.name]}", self.about(client, known))

    def enable(self, client, enabled):
        self.call("PUT", f"/clients/{self.ids[client.name]}", self.about(client, client.known, enabled))

    def set_lifetime(self, seconds):
        self.call("PUT", "", {"accessTokenLifespan": seconds})

    def introspect(self, token):
        url = f"{self.public}/realms/{REALM}/protocol/openid-connect/token/introspect"
        said = ask("POST", url, form={"token": token}, basic=("introspector", self.introspector))
        return said["active"], said.get("exp", 0)
