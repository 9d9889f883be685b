"""The subjects: how each of them is configured and started."""

import getpass
import os
import sys
from dataclasses import dataclass

from .machine import free_port
from .tools import BENCH


@dataclass(frozen=True)
class Subject:
    name: str
    kind: str
    #: Another binary than the built one.
    binary: str = ""

    @property
    def has_https(self):
        return self.kind != "relay" and not self.is_variant

    @property
    def is_variant(self):
        return self.kind in VARIANTS

    def launcher(self, scheme):
        """A function of the machine, a directory and a port: the command, its environment, and the
        fields that a client has to send."""
        def launch(machine, directory, port):
            return KINDS[self.kind](self, machine, directory, port, scheme)

        return launch


def sidecar(subject, machine, directory, port, scheme):
    """As it comes, but for the addresses and for one worker, since it has one core."""
    del directory
    token_service = f"http://127.0.0.1:{machine.ports['http']}"
    environment = {
        "AUTH_SIDECAR_LISTEN__ADDRESS": f"127.0.0.1:{port}",
        "AUTH_SIDECAR_LISTEN__WORKERS": "1",
        "AUTH_SIDECAR_ADMIN__ADDRESS": f"127.0.0.1:{free_port()}",
        "WAVEFRONT_URL": f"{scheme}://127.0.0.1:{machine.ports[scheme]}",
        "CSP_API_URL": token_service,
        "CSP_APP_ID": f"{'renew' if subject.kind == 'renewing' else 'app'}-{port}",
        "CSP_APP_SECRET": "secret",
        **VARIANTS.get(subject.kind, {}),
    }
    if scheme == "https":
        environment["AUTH_SIDECAR_UPSTREAM__CA_FILE"] = str(machine.ca_file)
    return [subject.binary or machine.binaries.paths["auth-sidecar"]], environment, []


def nginx(subject, machine, directory, port, scheme):
    del subject
    user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
    file = template("nginx.conf", machine, directory, port, scheme, USER=user)
    return [machine.binaries.paths["nginx"], "-p", str(directory), "-e", "stderr", "-c", file], {}, []


def haproxy(subject, machine, directory, port, scheme):
    del subject
    tls = f"ssl verify required ca-file {machine.ca_file} verifyhost localhost sni str(localhost)"
    file = template("haproxy.cfg", machine, directory, port, scheme, TLS=tls if scheme == "https" else "")
    return [machine.binaries.paths["haproxy"], "-db", "-f", file], {}, []


ENVOY_TLS = """\
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
          sni: localhost
          common_tls_context:
            tls_params: {{ tls_maximum_protocol_version: TLSv1_3 }}
            validation_context: {{ trusted_ca: {{ filename: {ca_file} }} }}
"""


def envoy(subject, machine, directory, port, scheme):
    del subject
    tls = ENVOY_TLS.format(ca_file=machine.ca_file) if scheme == "https" else ""
    file = template("envoy.yaml", machine, directory, port, scheme, TLS=tls, CLIENT_ID=f"envoy-{port}")
    command = [machine.binaries.paths["envoy"], "-c", file, "--concurrency", "1", "--log-level", "warn"]
    return [*command, "--disable-hot-restart"], {}, []


def relay(subject, machine, directory, port, scheme):
    del subject, directory
    command = [machine.binaries.paths["instance"], "relay", str(port), str(machine.ports[scheme])]
    return command, {}, [f"Authorization: Bearer {machine.token}"]


def template(name, machine, directory, port, scheme, **more):
    values = {
        "DIRECTORY": directory,
        "PORT": port,
        "SCHEME": scheme,
        "UPSTREAM_PORT": machine.ports[scheme],
        "TOKEN_PORT": machine.ports["http"],
        "TOKEN": machine.token,
        "CA_FILE": machine.ca_file,
        **more,
    }
    text = BENCH.joinpath("peers", name).read_text().replace("@NAMES@", "Names between at signs")
    for key, value in values.items():
        text = text.replace(f"@{key}@", str(value))
    file = directory / name
    file.write_text(text)
    return str(file)


#: The sidecar in another configuration, for the difference that it makes: the variables that it adds.
#: The token service gives "renewing" tokens that last about a second.
VARIANTS = {
    "renewing": {},
    "unlogged": {"AUTH_SIDECAR_LOG__ACCESS": "off"},
    "logged": {"AUTH_SIDECAR_LOG__ACCESS": "all"},
}

#: What `--subjects` can name.
KINDS = {
    "relay": relay,
    "nginx": nginx,
    "haproxy": haproxy,
    "envoy": envoy,
    "auth-sidecar": sidecar,
    **dict.fromkeys(VARIANTS, sidecar),
}


def chosen(names, also):
    kinds = names.split(",") if names else list(KINDS)
    for kind in kinds:
        if kind not in KINDS:
            sys.exit(f"no subject {kind}; there are {', '.join(KINDS)}")
    subjects = [Subject(kind, kind) for kind in kinds]
    for pair in also:
        name, _, binary = pair.partition("=")
        subjects.append(Subject(name, "auth-sidecar", os.path.abspath(binary)))
    return subjects
