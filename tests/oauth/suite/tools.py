"""The servers' programs: where they are, how they are had, and which version."""

import re
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

OAUTH = Path(__file__).resolve().parent.parent
ROOT = OAUTH.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "oauth"
FAKETIME = "lib*/**/libfaketime.so.1"
KEYCLOAK = "26.4.7"
SBIN = os.pathsep + "/usr/sbin" + os.pathsep + "/sbin"


class Tools:
    """Finds or makes what the chosen servers need, or ends with what is to be installed."""

    def __init__(self, names):
        self.paths, self.versions, self.missing = {}, {}, []
        TARGET.mkdir(parents=True, exist_ok=True)
        self.find("openssl", "openssl")
        self.paths["faketime"] = next(iter(sorted(Path("/usr").glob(FAKETIME))), None)
        if self.paths["faketime"] is None:
            self.missing.append("libfaketime")
        wanted = {
            "oidc-provider": self.oidc_provider, "glewlwyd": self.glewlwyd, "keycloak": self.keycloak, "hydra": self.hydra,
        }
        # All that is missing at once, before the first is made.
        makers = [wanted[name]() for name in names]
        if self.missing:
            sys.exit(f"missing: {' '.join(self.missing)}\n  Debian and Ubuntu: apt-get install {' '.join(self.missing)}\n"
                     "  or name the servers that are to be run")
        for make in makers:
            make()

    def find(self, name, package):
        self.paths[name] = shutil.which(name, path=os.environ["PATH"] + SBIN)
        if self.paths[name] is None:
            self.missing.append(package)

    def faketime(self, skew):
        """The variables that move a program's wall clock, and leave its timers alone."""
        return {
            "LD_PRELOAD": str(self.paths["faketime"]), "FAKETIME": f"{skew:+d}s", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def oidc_provider(self):
        self.find("node", "nodejs")
        self.find("npm", "npm")
        return self.install_oidc_provider

    def install_oidc_provider(self):
        home = TARGET / "oidc-provider"
        home.mkdir(exist_ok=True)
        source = OAUTH / "oidc-provider"
        wanted = (source / "package-lock.json").read_text()
        if not (home / "package-lock.json").exists() or (home / "package-lock.json").read_text() != wanted:
            shutil.copy(source / "package.json", home)
            shutil.copy(source / "package-lock.json", home)
            run(self.paths["npm"], "ci", "--silent", cwd=home)
        shutil.copy(source / "server.mjs", home)
        self.paths["oidc-provider"] = str(home / "server.mjs")
        self.versions["oidc-provider"] = re.search(r'"oidc-provider": "([0-9.]+)"', wanted).group(1)

    def glewlwyd(self):
        self.find("glewlwyd", "glewlwyd")
        return self.ask_glewlwyd

    def ask_glewlwyd(self):
        done = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", "glewlwyd"], capture_output=True, text=True, check=False)
        self.versions["glewlwyd"] = done.stdout.strip() or "of unknown version"

    def keycloak(self):
        self.find("java", "openjdk-17-jre-headless")
        self.find("mvn", "maven")
        return self.install_keycloak

    def install_keycloak(self):
        home = TARGET / f"keycloak-{KEYCLOAK}"
        if not (home / "built").exists():
            artifact = f"org.keycloak:keycloak-quarkus-dist:{KEYCLOAK}:zip"
            run(self.paths["mvn"], "--quiet", "--batch-mode",
                "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy", f"-Dartifact={artifact}",
                f"-DoutputDirectory={TARGET}", "-Dmdep.useBaseVersion=true", cwd=TARGET)
            archive = TARGET / f"keycloak-quarkus-dist-{KEYCLOAK}.zip"
            with zipfile.ZipFile(archive) as files:
                files.extractall(TARGET)
            archive.unlink()
            (home / "bin/kc.sh").chmod(0o755)
            run(str(home / "bin/kc.sh"), "build", "--db=dev-file", "--https-client-auth=request", cwd=home)
            (home / "built").touch()
        self.paths["keycloak"] = home
        self.versions["keycloak"] = KEYCLOAK

    def hydra(self):
        self.find("go", "golang-go")
        self.find("cc", "gcc")
        return self.install_hydra

    def install_hydra(self):
        source = OAUTH / "hydra"
        binary = TARGET / "hydra"
        wanted = re.search(r"github.com/ory/hydra/v2 v([0-9.]+)", (source / "go.mod").read_text()).group(1)
        marker = TARGET / f"hydra-{wanted}"
        if not marker.exists():
            run(self.paths["go"], "build", "-tags", "sqlite,sqlite_omit_load_extension,json1", "-o", str(binary), ".", cwd=source)
            marker.touch()
        self.paths["hydra"] = str(binary)
        self.versions["hydra"] = wanted


def sidecar():
    """A release build of this tree."""
    run("cargo", "build", "--release", "--locked", "--bin", "auth-sidecar", cwd=ROOT)
    return TARGET.parent / "release/auth-sidecar"


def run(*command, cwd):
    print("oauth: " + " ".join(map(str, command)), file=sys.stderr)
    subprocess.run(command, cwd=cwd, check=True)
