"""Keys and certificates of a run, made by OpenSSL."""

import base64
import os
import subprocess
from pathlib import Path


def openssl(*arguments, text=None):
    done = subprocess.run(["openssl", *map(str, arguments)], input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"openssl {arguments[0]}: {done.stderr}")
    return done.stdout


class Keys:
    """A folder with an authority, the certificate of the server and what clients need."""

    def __init__(self, folder: Path):
        self.folder = folder
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", folder / "ca-key.pem", "-out",
                folder / "ca.pem", "-days", "30", "-subj", "/CN=tests authority",
                "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        self.certificate("server", "127.0.0.1", "subjectAltName=IP:127.0.0.1,DNS:localhost")
        openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", folder / "server-signing.pem")

    def path(self, name):
        return self.folder / name

    def certificate(self, name, common_name, extension="extendedKeyUsage=clientAuth"):
        """`name.pem` and `name-key.pem`, signed by the authority."""
        key, request, extensions = (self.folder / f"{name}{end}" for end in ("-key.pem", ".csr", ".ext"))
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request, "-subj", f"/CN={common_name}")
        extensions.write_text(extension)
        openssl("x509", "-req", "-in", request, "-CA", self.folder / "ca.pem", "-CAkey", self.folder / "ca-key.pem",
                "-CAcreateserial", "-out", self.folder / f"{name}.pem", "-days", "30", "-extfile", extensions)

    def signing_key(self, name):
        """`name`, an RSA key as PEM; returns the public key as a JWK."""
        openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", self.folder / name)
        modulus = self.modulus(name)
        number = modulus.to_bytes((modulus.bit_length() + 7) // 8, "big")
        number = base64.urlsafe_b64encode(number).rstrip(b"=").decode()
        return {"kty": "RSA", "n": number, "e": "AQAB", "use": "sig", "alg": "RS256", "kid": name}

    def modulus(self, name):
        said = openssl("rsa", "-in", self.folder / name, "-noout", "-modulus")
        return int(said.strip().partition("=")[2], 16)

    def public_pem(self, name):
        return openssl("pkey", "-in", self.folder / name, "-pubout")


def replace(path: Path, text):
    """Swaps in a file as those do who rotate secrets."""
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    new.chmod(0o600)
    os.replace(new, path)
