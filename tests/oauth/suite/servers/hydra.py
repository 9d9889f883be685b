"""Ory Hydra, built by the Go toolchain; on SQLite. libfaketime cannot reach Go: the sidecar's clock moves instead."""

import subprocess

from .server import Server, ask


class Hydra(Server):
    NAME = "hydra"
    FAKED = False

    def prepare(self, public, public_tls):
        self.public = public
        self.version = "Ory Hydra " + self.tools.versions["hydra"]
        self.admin = f"http://127.0.0.1:{self.own_port}/admin"
        self.configure(self.LIFETIME)
        subprocess.run([*self.hydra("migrate", "sql", "up", "-e", "--yes")], env=self.command()[1] | {"PATH": ""},
                       check=True, capture_output=True, timeout=120)

    def configure(self, lifetime):
        (self.directory / "hydra.yaml").write_text(f"""
dsn: sqlite://{self.directory}/hydra.sqlite?_fk=true
urls: {{ self: {{ issuer: {self.public} }} }}
serve:
  public: {{ host: 127.0.0.1, port: {self.port} }}
  admin: {{ host: 127.0.0.1, port: {self.own_port} }}
secrets: {{ system: [ tests-only-tests-only-tests-only ] }}
ttl: {{ access_token: {lifetime}s }}
log: {{ level: info }}
sqa: {{ opt_out: true }}
""")

    def hydra(self, *arguments):
        return [self.tools.paths["hydra"], *arguments, "--config", str(self.directory / "hydra.yaml")]

    def command(self):
        return self.hydra("serve", "all", "--dev"), {"DSN": f"sqlite://{self.directory}/hydra.sqlite?_fk=true"}

    def ready(self):
        return ask("GET", f"http://127.0.0.1:{self.port}/health/ready")["status"] == "ok"

    def clients(self):
        url = f"{self.public}/oauth2/token"
        scope = {"auth.scopes": "metrics"}
        made = [
            self.make("basic", "client_secret_basic", url, **scope),
            self.make("post", "client_secret_post", issuer=self.public, **scope),
            self.make("private-key", "private_key_jwt", url, **scope),
        ]
        for client in made:
            ask("POST", f"{self.admin}/clients", self.about(client, client.known))
        return made

    def about(self, client, known):
        about = {
            "client_id": client.name, "grant_types": ["client_credentials"], "scope": "metrics",
            "token_endpoint_auth_method": client.method,
        }
        return about | ({"jwks": {"keys": [known]}} if client.method == "private_key_jwt" else {"client_secret": known})

    def change(self, client, known):
        ask("PUT", f"{self.admin}/clients/{client.name}", self.about(client, known))

    def enable(self, client, enabled):
        """It has no switch for this: a client is there, or is not."""
        if enabled:
            ask("POST", f"{self.admin}/clients", self.about(client, client.known))
        else:
            ask("DELETE", f"{self.admin}/clients/{client.name}")

    def set_lifetime(self, seconds):
        self.configure(seconds)

    def introspect(self, token):
        said = ask("POST", f"{self.admin}/oauth2/introspect", form={"token": token})
        return said["active"], said.get("exp", 0)
