#!/usr/bin/env python3
"""Makes an image of a folder and gives it to containerd: `image.py NAME[,NAME…] FOLDER [--user USER] ENTRYPOINT…`.

An archive as `docker save` writes it, of one layer."""

import hashlib
import io
import json
import subprocess
import sys
import tarfile


def add(archive, name, content):
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def main(names, folder, *entrypoint):
    user = "65532:65532"
    if entrypoint[0] == "--user":
        _, user, *entrypoint = entrypoint
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        def owned(entry):
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            return entry

        archive.add(folder, arcname=".", filter=owned)
    layer = layer.getvalue()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": list(entrypoint), "User": user, "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
    }
    config = json.dumps(config).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    tags = [name if "/" in name else f"docker.io/library/{name}" for name in names.split(",")]
    manifest = [{"Config": config_name, "RepoTags": tags, "Layers": ["layer.tar"]}]
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        add(archive, config_name, config)
        add(archive, "layer.tar", layer)
        add(archive, "manifest.json", json.dumps(manifest).encode())
    subprocess.run(["ctr", "images", "import", "-"], input=whole.getvalue(), check=True, stdout=subprocess.DEVNULL)


main(*sys.argv[1:])
