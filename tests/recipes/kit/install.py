"""Tools by their ecosystem's ordinary client, into a cache outside of the tree's own files."""

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CACHE = Path(os.environ.get("RECIPES_CACHE", ROOT / "target" / "recipes")).resolve()
MINUTES = 60


# What brings a program on Debian and Ubuntu. Go is there too old, and comes from its own makers.
PACKAGES = {
    "apt-get": "apt", "curl": "curl", "java": "default-jdk-headless", "javac": "default-jdk-headless", "mvn": "maven",
    "node": "nodejs", "npm": "npm", "unshare": "util-linux",
}


class Missing(Exception):
    """The tool cannot be had on this machine: the recipe is skipped, and says why."""


def command(name):
    """The path of a program that has to be there."""
    found = shutil.which(name)
    if not found:
        raise missing(name, PACKAGES.get(name))
    return found


def missing(name, package):
    return Missing(f"{name} is not installed" + (f" (Debian and Ubuntu: apt-get install {package})" if package else ""))


def venv(*packages):
    """The Python of an environment with these packages."""
    if not importlib.util.find_spec("ensurepip"):
        raise missing("Python's venv", "python3-venv")
    folder = folder_of("python", packages)
    once(folder, lambda: (
        run(sys.executable, "-m", "venv", "--clear", folder),
        run(folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", *packages),
    ))
    return folder / "bin" / "python"


def libraries(*packages):
    """Packages for the recipe itself, which can import them from now on."""
    folder = venv(*packages).parents[1]
    sys.path.append(str(next(folder.glob("lib/python*/site-packages"))))


def npm(*packages):
    """The folder `node_modules` with these packages."""
    command("npm")
    folder = folder_of("npm", packages)
    once(folder, lambda: run("npm", "install", "--silent", "--ignore-scripts", "--prefix", folder, *packages))
    return folder / "node_modules"


def go(package, version, tags="", minutes=20):
    """The program that `go install` makes."""
    command("go")
    folder = folder_of("go", [package, version, tags])
    environment = go_environment({"GOBIN": str(folder), "GOFLAGS": "-modcacherw"})
    once(folder, lambda: run(
        "nice", "-n", "10", "go", "install", "-trimpath", "-ldflags=-s -w", f"-tags={tags}", f"{package}@{version}",
        environment=environment, minutes=minutes,
    ))
    return folder / package.rstrip("/").rpartition("/")[2]


def go_environment(more):
    caches = {"GOPATH": str(CACHE / "gopath"), "GOCACHE": str(CACHE / "gocache"), "GOTOOLCHAIN": "local"}
    return {**os.environ, **caches, **more}


def go_program(files, minutes=40):
    """The program that `files` (texts by their names, a `go.mod` among them) make; kept as long as they stay the same.

    `go.mod` has the versions that are wanted; what these want in turn follows from them.
    """
    command("go")
    folder = folder_of("go-program", [name + text for name, text in sorted(files.items())])
    environment = go_environment({"GOFLAGS": "-modcacherw -mod=mod"})

    def build():
        for name, text in files.items():
            (folder / name).write_text(text)
        run(
            "nice", "-n", "10", "go", "build", "-C", folder, "-trimpath", "-ldflags=-s -w", "-o", folder / "program", ".",
            environment=environment, minutes=minutes,
        )

    once(folder, build)
    return folder / "program"


POM = """
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>recipe</groupId><artifactId>recipe</artifactId><version>1</version><packaging>pom</packaging>
  <dependencyManagement><dependencies>{managed}</dependencies></dependencyManagement>
  <dependencies>{needed}</dependencies>
</project>
"""
# Projects name repositories that have gone; waiting for each of them takes minutes.
SETTINGS = """
<settings><mirrors><mirror>
  <id>none</id><mirrorOf>*,!central</mirrorOf><url>file://{nowhere}</url>
</mirror></mirrors></settings>
"""
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"


def maven(*artifacts, bom=None, without=()):
    """The class path of GROUP:NAME[:VERSION] and what they need, but for GROUP:NAME of `without`.

    Versions that are not named come from a bill of materials.
    """
    # Without a JDK there is no use in them.
    command("javac")
    command("mvn")
    folder = folder_of("maven", [*artifacts, without] + ([bom] if bom else []))
    left_out = "".join(
        "<exclusion><groupId>{}</groupId><artifactId>{}</artifactId></exclusion>".format(*name.split(":")) for name in without
    )

    def fetch():
        text = POM.format(
            managed=dependency(bom, "<type>pom</type><scope>import</scope>") if bom else "",
            needed="".join(dependency(artifact, f"<exclusions>{left_out}</exclusions>") for artifact in artifacts),
        )
        (folder / "pom.xml").write_text(text)
        (folder / "settings.xml").write_text(SETTINGS.format(nowhere=folder / "nowhere"))
        run(
            "nice", "-n", "10", "mvn", "--quiet", "--batch-mode", "--settings", folder / "settings.xml", f"-Dmaven.repo.local={CACHE / 'm2'}",
            "--file", folder / "pom.xml", COPY, f"-DoutputDirectory={folder / 'jars'}", "-DincludeScope=runtime",
        )

    once(folder, fetch)
    return f"{folder / 'jars'}/*"


def dependency(artifact, more):
    group, name, *version = artifact.split(":")
    text = f"<groupId>{group}</groupId><artifactId>{name}</artifactId>"
    return f"<dependency>{text}{''.join(f'<version>{number}</version>' for number in version)}{more}</dependency>"


def debian(*packages):
    """A folder with the files of Debian packages and of what they need beyond this machine; nothing is installed."""
    command("apt-get")
    folder = folder_of("debian", packages)

    def unpack():
        archives = folder / "archives"
        (archives / "partial").mkdir(parents=True, exist_ok=True)
        fetch = (
            "apt-get", "install", "--quiet", "--quiet", "--yes", "--no-install-recommends", "--reinstall",
            "--download-only", "-o", f"Dir::Cache::archives={archives}", *packages,
        )
        if os.geteuid() == 0:
            run("apt-get", "update", "--quiet", "--quiet")
        run(*fetch)
        for archive in archives.glob("*.deb"):
            run("dpkg-deb", "--extract", archive, folder / "root")
        shutil.rmtree(archives)

    once(folder, unpack)
    return folder / "root"


def folder_of(kind, parts):
    name = hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:16]
    return CACHE / kind / name


def once(folder, make):
    """Runs `make` unless it has succeeded before."""
    done = folder / "installed"
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Recipes that run at a time install one after the other: apt-get and npm do not share their own files well.
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if done.exists():
            return
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        make()
        done.touch()


def run(*arguments, environment=None, minutes=20):
    """Runs an installation; what it says is shown only when it fails."""
    try:
        done = subprocess.run(
            [str(argument) for argument in arguments], env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=minutes * MINUTES,
        )
    except subprocess.TimeoutExpired as late:
        raise Missing(f"{arguments[0]} did not end within {minutes} minutes") from late
    if done.returncode:
        # One line: where it is skipped, the reason stands in a list.
        program = next(name for name in arguments if name not in ("nice", "-n", "10"))
        raise Missing(f"{program} failed ({done.returncode}): {' '.join(done.stdout.split())[-600:]}")
    return done.stdout
