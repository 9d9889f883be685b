"""Debian's glewlwyd, an implementation in C; its OpenID Connect plugin, on SQLite."""

import gzip
import sqlite3
import urllib.request
from pathlib import Path

from ..jwt import verify
from .server import Server, ask

ADMIN = ("admin", "password")
SCOPE = "metrics"


class Glewlwyd(Server):
    NAME = "glewlwyd"

    def prepare(self, public, public_tls):
        self.public = public
        self.version = "Debian glewlwyd " + self.tools.versions["glewlwyd"]
        self.modulus = self.keys.modulus("server-signing.pem")
        self.api = f"http://127.0.0.1:{self.port}/api"
        schema = Path("/usr/share/doc/glewlwyd/database/init.sqlite3.sql.gz")
        with sqlite3.connect(self.directory / "glewlwyd.db") as database:
            database.executescript(gzip.decompress(schema.read_bytes()).decode())
        modules = "/usr/lib/glewlwyd"
        (self.directory / "glewlwyd.conf").write_text(f"""
port={self.port}
bind_address="127.0.0.1"
external_url="{public}"
login_url="login.html"
api_prefix="api"
static_files_path="{self.directory}"
log_mode="console"
log_level="INFO"
cookie_domain="127.0.0.1"
cookie_secure=0
session_expiration=2419200
session_key="GLEWLWYD2_SESSION_ID"
admin_scope="g_admin"
profile_scope="g_profile"
user_module_path="{modules}/user"
client_module_path="{modules}/client"
user_auth_scheme_module_path="{modules}/scheme"
plugin_module_path="{modules}/plugin"
hash_algorithm="SHA512"
database = {{ type = "sqlite3"; path = "{self.directory}/glewlwyd.db"; }};
""")

    def command(self):
        return [self.tools.paths["glewlwyd"], "--config-file", str(self.directory / "glewlwyd.conf")], {}

    def clients(self):
        self.login()
        self.call("POST", "/scope/", {"name": SCOPE, "display_name": SCOPE, "password_required": False})
        self.call("POST", "/mod/plugin/", self.plugin(self.LIFETIME))
        url = f"{self.public}/api/oidc/token"
        scope = {"auth.scopes": SCOPE}
        made = [
            self.make("basic", "client_secret_basic", url, **scope),
            self.make("post", "client_secret_post", issuer=f"{self.public}/api/oidc", **scope),
            self.make("private-key", "private_key_jwt", url, **scope),
        ]
        for client in made:
            self.call("POST", "/client/", {"client_id": client.name, **self.about(client, client.known)})
        return made

    def about(self, client, known):
        about = {
            "name": client.name, "enabled": True, "confidential": True, "scope": [SCOPE],
            "authorization_type": ["client_credentials"], "token_endpoint_auth_method": [client.method],
        }
        secret = {"jwks": {"keys": [known]}} if client.method == "private_key_jwt" else {"client_secret": known}
        return about | secret

    def plugin(self, lifetime):
        return {
            "module": "oidc", "name": "oidc", "display_name": "oidc", "enabled": True,
            "parameters": {
                "iss": f"{self.public}/api/oidc", "jwt-type": "rsa", "jwt-key-size": "256",
                "key": self.keys.path("server-signing.pem").read_text(), "cert": self.keys.public_pem("server-signing.pem"),
                "access-token-duration": lifetime, "refresh-token-duration": 1209600, "code-duration": 600,
                "allow-non-oidc": True, "auth-type-client-enabled": True, "auth-type-code-enabled": False,
                "auth-type-token-enabled": False, "auth-type-id-token-enabled": False, "auth-type-none-enabled": False,
                "auth-type-password-enabled": False, "auth-type-refresh-enabled": False,
                "request-parameter-allow": True, "request-maximum-exp": 3600, "client-jwks-parameter": "jwks",
                "client-pubkey-parameter": "pubkey",
            },
        }

    def login(self):
        body = f'{{"username":"{ADMIN[0]}","password":"{ADMIN[1]}"}}'.encode()
        request = urllib.request.Request(f"{self.api}/auth/", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            self.cookie = answer.headers["Set-Cookie"].partition(";")[0]

    def call(self, method, path, body=None):
        return ask(method, self.api + path, body, fields={"Cookie": self.cookie})

    def change(self, client, known):
        self.call("PUT", f"/client/{client.name}", self.about(client, known))

    def enable(self, client, enabled):
        self.call("PUT", f"/client/{client.name}", {**self.about(client, client.known), "enabled": enabled})

    def set_lifetime(self, seconds):
        self.call("PUT", "/mod/plugin/oidc", self.plugin(seconds))
        self.call("PUT", "/mod/plugin/oidc/reset")

    def introspect(self, token):
        claims = verify(token, self.modulus)
        return claims is not None, claims["exp"] if claims else 0


