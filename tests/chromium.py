"""Chromium without a window, led over its DevTools pipe: real drops, mouse, keys and downloads.

`python tests/chromium.py WEIGHTS PICTURE OUT.png [dark]` takes the README's screenshot of the demo.
"""

import base64
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from io import BytesIO
from pathlib import Path
from shutil import which

from PIL import Image

PROGRAM = which("chromium") or which("chromium-browser") or which("google-chrome")
FLAGS = (
    "--headless --no-sandbox --remote-debugging-pipe --no-first-run --disable-gpu --disable-dev-shm-usage --mute-audio "
    "--disable-background-networking --disable-component-update --disable-sync --disable-extensions --hide-scrollbars"
)
PATIENCE = 60  # seconds


class Page:
    """One page of a browser of its own; use it in a `with`."""

    def __init__(self, folder: Path, width=1280, height=900, dark=False):
        # Chromium reads its orders from descriptor 3 and answers on 4.
        theirs, self.orders = os.pipe()
        self.answers, theirs_too = os.pipe()
        line = f"exec '{PROGRAM}' {FLAGS} --user-data-dir='{folder}' about:blank 3<&{theirs} 4>&{theirs_too}"
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(
            ["bash", "-c", line],
            pass_fds=(theirs, theirs_too),
            env=os.environ | {"TMPDIR": str(folder)},
            stdin=quiet,
            stdout=quiet,
            stderr=quiet,
        )
        os.close(theirs)
        os.close(theirs_too)
        self.buffer, self.count, self.session, self.events = b"", 0, None, []
        targets = self.send("Target.getTargets")["targetInfos"]
        target = next(target["targetId"] for target in targets if target["type"] == "page")
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        self.resize(width, height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(10)
        os.close(self.orders)
        os.close(self.answers)

    def resize(self, width, height):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.send("Emulation.setDeviceMetricsOverride", **size)

    def send(self, method, **parameters):
        """Give an order and wait for its answer; events that come meanwhile are kept."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.orders, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self.count:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.events.append(answer)

    def event(self, method):
        """What the browser tells of an event, waited for unless it has come."""
        while True:
            for event in self.events:
                if event.get("method") == method:
                    return event["params"]
            self.events.append(self._read())

    def _read(self):
        end = time.monotonic() + PATIENCE
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.answers], [], [], max(end - time.monotonic(), 0))
            assert ready, "Chromium did not answer"
            part = os.read(self.answers, 1 << 20)
            assert part, "Chromium has ended"
            self.buffer += part
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def run(self, code):
        """The value of JavaScript code, awaited."""
        answer = self.send("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, condition):
        """Wait until JavaScript code gives something true, and return it."""
        end = time.monotonic() + PATIENCE
        while not (value := self.run(condition)):
            assert time.monotonic() < end, f"never true: {condition}"
            time.sleep(0.05)
        return value

    def open(self, url):
        self.send("Page.navigate", url=url)
        self.until(f"location.href.startsWith({url!r}) && document.readyState === 'complete'")

    def middle(self, selector):
        """Where the middle of an element is, scrolled into view."""
        box = f"document.querySelector({selector!r})"
        return self.run(
            f"(() => {{ {box}.scrollIntoView({{block: 'nearest'}}); const r = {box}.getBoundingClientRect(); "
            "return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )

    def click(self, selector):
        x, y = self.middle(selector)
        self.drag((x, y), (x, y))

    def drag(self, start, end):
        """Press the mouse, move it and release it."""
        for kind, (x, y) in (("mousePressed", start), ("mouseMoved", end), ("mouseReleased", end)):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def swipe(self, start, end):
        """Touch the screen, move the finger and lift it."""
        for kind, points in (("touchStart", [start]), ("touchMove", [end]), ("touchEnd", [])):
            self.send("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": x, "y": y} for x, y in points])

    def key(self, key):
        codes = {"Tab": 9, "Enter": 13, " ": 32, "ArrowLeft": 37, "ArrowRight": 39}
        text = {"Enter": "\r", " ": " "}.get(key, "")
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, text=text, windowsVirtualKeyCode=codes[key])

    def drop(self, selector, *files):
        """Drop files on an element, as from a file manager."""
        x, y = self.middle(selector)
        data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.send("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def put(self, selector, file):
        """Choose a file for an input."""
        node = self.send("Runtime.evaluate", expression=f"document.querySelector({selector!r})")["result"]["objectId"]
        self.send("DOM.setFileInputFiles", objectId=node, files=[str(file)])

    def download(self, selector, folder, name):
        """Click a link and return the bytes of the file that comes of it."""
        self.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
        self.click(selector)
        end = time.monotonic() + PATIENCE
        while not (folder / name).exists():  # Chromium names it so when it is whole
            assert time.monotonic() < end, f"no {name} among {sorted(folder.iterdir())}"
            time.sleep(0.05)
        return (folder / name).read_bytes()

    def shot(self, whole=False):
        """What is seen, or the whole page, as a picture."""
        clip = {}
        if whole:
            size = self.send("Page.getLayoutMetrics")["cssContentSize"]
            clip = {"clip": {**size, "scale": 1}, "captureBeyondViewport": True}
        answer = self.send("Page.captureScreenshot", format="png", **clip)
        return Image.open(BytesIO(base64.b64decode(answer["data"]))).convert("RGB")

    def complaints(self):
        """Exceptions, console errors, and requests to anywhere but this machine."""
        self.run("0")  # so that all events before it have come
        found = []
        for event in self.events:
            method, told = event.get("method"), event.get("params", {})
            if method == "Runtime.exceptionThrown":
                found.append(told["exceptionDetails"].get("exception", {}).get("description", "an exception"))
            elif method == "Log.entryAdded" and told["entry"]["level"] == "error":
                found.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
            elif method == "Network.requestWillBeSent":
                url = told["request"]["url"]
                if not url.startswith(("http://127.0.0.1:", "blob:http://127.0.0.1:", "data:")):
                    found.append(f"asked for {url}")
        return found


def screenshot(weights, picture, out, *scheme):
    """Serve the demo, drop a picture and save what is seen."""
    call = [sys.executable, "-m", "aimmat.demo", "--weights", weights, "--port", "0"]
    with subprocess.Popen(call, stdout=subprocess.PIPE, text=True) as server, tempfile.TemporaryDirectory() as folder:
        try:
            url = server.stdout.readline().split()[1]
            with Page(Path(folder), 1280, 770, dark="dark" in scheme) as page:
                page.open(url)
                page.drop("#drop", Path(picture).resolve())
                page.until("!document.getElementById('done').hidden")
                page.run("slide(45)")
                time.sleep(0.5)  # until all is painted
                levels = [3 * round(level / 3) for level in range(256)]  # fewer colours, a smaller file
                page.shot().point(levels * 3).save(out, optimize=True)
        finally:
            server.terminate()
    print(f"{out}: {Path(out).stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    screenshot(*sys.argv[1:])
