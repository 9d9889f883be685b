"""Pictures of the admin listener's page while all is well, while the upstream is down and while the token is lost."""

import base64
import json
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import zlib
from pathlib import Path

from chromium import Chromium, Page
from drive import Handler, Server, wait

# Long enough for lines with some points: a sample comes every five seconds.
TRAFFIC_SECONDS = 30
TOKEN_SECONDS = 15
WIDTHS = {"": 900, "-phone": 390}


class Tokens(Handler):
    works = True
    number = 0

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not Tokens.works:
            return self.answer(503, [])
        Tokens.number += 1
        grant = {"access_token": f"token-{Tokens.number}", "token_type": "Bearer", "expires_in": TOKEN_SECONDS}
        self.answer(200, [("Content-Type", "application/json")], json.dumps(grant).encode())


class Upstream(Handler):
    works = True

    def do_GET(self):
        if not Upstream.works:
            # Connections outlive the listener.
            self.close_connection = True
            return
        self.answer(200, [("Content-Type", "text/plain")], b"hello\n")


class Client(threading.Thread):
    """Sends requests, in waves."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.address = address
        self.start()

    def run(self):
        for number in range(1 << 30):
            try:
                urllib.request.urlopen(f"http://{self.address}/api/v2/alert", timeout=5).read()
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.02 + 0.03 * (number // 100 % 3))


def start(program, directory, tokens, upstream):
    config = directory / "config.toml"
    config.write_text(
        f"""
        [listen]
        address = "127.0.0.1:9797"
        [upstream]
        url = "http://127.0.0.1:{upstream.port}"
        [auth]
        type = "oauth2-client-credentials"
        token_url = "http://127.0.0.1:{tokens.port}/token"
        client_id = "id"
        client_secret = "secret"
        hold_timeout = "1s"
        [admin]
        address = "127.0.0.1:9798"
        """
    )
    output = (directory / "output").open("wb")
    return subprocess.Popen([program, "run", "--config", config], stdout=output, stderr=output)


def state():
    try:
        with urllib.request.urlopen("http://127.0.0.1:9798/status", timeout=5) as answer:
            return json.load(answer)["state"]
    except (urllib.error.URLError, OSError):
        return None


def smaller(png):
    """The same picture with at most 256 colours, which is a fraction of the bytes."""
    packed, place = b"", 8
    while place < len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        kind, data = png[place + 4 : place + 8], png[place + 8 : place + 8 + length]
        if kind == b"IHDR":
            width, height, _, colours = struct.unpack(">IIBB", data[:10])
        if kind == b"IDAT":
            packed += data
        place += 12 + length
    size = {2: 3, 6: 4}[colours]
    rows = unfiltered(zlib.decompress(packed), width * size, size, height)
    pixels = [[row[at : at + 3] for at in range(0, len(row), size)] for row in rows]
    for lost in range(8):
        # The least that makes few enough: shades of letters that no eye tells apart.
        shades = {pixel: bytes(part >> lost for part in pixel) for row in pixels for pixel in row}
        palette = {shade: number for number, shade in enumerate(sorted(set(shades.values())))}
        if len(palette) <= 256:
            break
    # Of each shade some pixel that has it, so that white stays white.
    shown = {shades[pixel]: pixel for pixel in sorted(shades)}
    data = b"".join(b"\0" + bytes(palette[shades[pixel]] for pixel in row) for row in pixels)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", b"".join(shown[shade] for shade in palette)),
        (b"IDAT", zlib.compress(data, 9)),
        (b"IEND", b""),
    ]
    whole = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return png[:8] + b"".join(whole(kind, data) for kind, data in chunks)


def unfiltered(data, stride, size, height):
    """The rows of a picture without the filters of PNG."""
    above, rows = bytes(stride), []
    for number in range(height):
        start = number * (stride + 1)
        kind, row = data[start], bytearray(data[start + 1 : start + 1 + stride])
        for at in range(stride if kind else 0):
            left = row[at - size] if at >= size else 0
            corner = above[at - size] if at >= size else 0
            row[at] = (row[at] + (left, above[at], (left + above[at]) // 2, paeth(left, above[at], corner))[kind - 1]) & 255
        above = bytes(row)
        rows.append(above)
    return rows


def paeth(left, above, corner):
    guess = left + above - corner
    return min((left, above, corner), key=lambda one: abs(guess - one))


def take(browser, name, directory):
    for suffix, width in WIDTHS.items():
        for scheme in ("light", "dark"):
            with Page(browser) as page:
                size = {"width": width, "height": 600, "deviceScaleFactor": 1, "mobile": width < 500}
                page.call("Emulation.setDeviceMetricsOverride", **size)
                scheme_feature = {"name": "prefers-color-scheme", "value": scheme}
                page.call("Emulation.setEmulatedMedia", features=[scheme_feature])
                page.open("http://127.0.0.1:9798/")
                height = page.run("document.documentElement.scrollHeight")
                wide = page.run("document.documentElement.scrollWidth")
                if wide > width:
                    print(f"pictures: {name}{suffix} is {wide} wide, and the screen {width}", file=sys.stderr)
                clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
                got = page.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
            path = directory / f"{name}{suffix}-{scheme}.png"
            path.write_bytes(base64.b64decode(got["data"]))
            print(f"pictures: {path}")


def main():
    program, chromium, scratch, directory = sys.argv[1:]
    scratch, directory = Path(scratch), Path(directory)
    tokens, upstream = Server(Tokens), Server(Upstream)
    sidecar = start(program, scratch, tokens, upstream)
    browser = Chromium(chromium, str(scratch), "")
    try:
        wait(lambda: state() == "ready", "the sidecar is not ready")
        Client("127.0.0.1:9797")
        time.sleep(TRAFFIC_SECONDS)
        take(browser, "ready", directory)
        Upstream.works = False
        upstream.shutdown()
        upstream.server_close()
        wait(lambda: state() == "degraded", "the upstream does not fail")
        time.sleep(12)
        take(browser, "upstream-down", directory)
        Tokens.works = False
        deadline = time.monotonic() + 2 * TOKEN_SECONDS
        while state() != "unavailable" and time.monotonic() < deadline:
            time.sleep(0.5)
        time.sleep(6)
        take(browser, "token-lost", directory)
        # That takes its time, and only this one goes elsewhere.
        shown = directory / "upstream-down-light.png"
        shown.write_bytes(smaller(shown.read_bytes()))
    finally:
        browser.close()
        sidecar.kill()
        sidecar.wait()


main()
