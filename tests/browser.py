"""A headless browser for tests of pages, spoken to through its debugging pipe: no driver, no
port."""

import base64
import fcntl
import json
import os
import select
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

SILENCE_S = 60  # a browser that says nothing for so long has hung
CHROMIUM = Path("/usr/bin/chromium")
SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
)


class Page:
    """One open page.

    Args:
        errors: what scripts threw, what was refused, and what was written to the console as an
            error.
        loads: addresses that the page asked for, itself among them.
    """

    def __init__(self, send: int, receive: int) -> None:
        self._send, self._receive, self._left, self._number, self._loaded = send, receive, b"", 0, 0
        self.errors: list[str] = []
        self.loads: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def open(self, path: Path, *, width: int, height: int = 900, scripts: bool = True) -> None:
        """Opens a file in a window of that many CSS pixels and waits until it is loaded."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self._go("about:blank")
        self.errors, self.loads = [], []
        self._go(path.as_uri())
        if scripts:
            self.evaluate("new Promise(done => setTimeout(done, 50))")

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        found = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """Presses a key on what has the focus."""
        text = {"Enter": "\r", " ": " "}.get(key, "")
        code = {"Enter": 13, " ": 32, "Tab": 9}[key]
        for kind in ("keyDown", "keyUp"):
            more = {"text": text} if kind == "keyDown" and text else {}
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **more
            )

    def move(self, x: float, y: float) -> None:
        """Moves the mouse."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def print(self) -> bytes:
        """The page as PDF, on the paper that its style sheet asks for."""
        return base64.b64decode(
            self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)["data"]
        )

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the DevTools protocol to this page."""
        return self._call(method, session=self._session, **parameters)

    def _call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters} | (
            {"sessionId": session} if session else {}
        )
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while True:
            found = self._next()
            if found.get("id") == self._number:
                assert "error" not in found, (method, found["error"])
                return found["result"]

    def _go(self, address: str) -> None:
        before = self._loaded
        self.call("Page.navigate", url=address)
        while self._loaded == before:
            self._next()

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            assert select.select([self._receive], [], [], SILENCE_S)[0], "the browser says nothing"
            more = os.read(self._receive, 1 << 20)
            assert more, "the browser has ended"
            self._left += more
        one, self._left = self._left.split(b"\0", 1)
        message = json.loads(one)
        said = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(
                said["exceptionDetails"].get("exception", {}).get("description")
                or said["exceptionDetails"]["text"]
            )
        elif message.get("method") == "Log.entryAdded" and said["entry"]["level"] == "error":
            self.errors.append(said["entry"]["text"])
        elif message.get("method") == "Runtime.consoleAPICalled" and said["type"] in (
            "error",
            "assert",
        ):
            self.errors.append(str(said["args"]))
        elif message.get("method") == "Page.loadEventFired":
            self._loaded += 1
        elif message.get("method") == "Network.requestWillBeSent":
            self.loads.append(said["request"]["url"])
        return message


@contextmanager
def browsing(folder: Path) -> Iterator[Page]:
    """A browser with an empty profile in a folder; the test is skipped where there is none."""
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}: install chromium to see the pages as readers do")
    ours, theirs = os.pipe(), os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (ours[0], theirs[1])]
    command = [
        "bash",
        "-c",
        f'exec "$@" 3<&{high[0]} 4>&{high[1]}',
        "bash",
        str(CHROMIUM),
        *SWITCHES,
        f"--user-data-dir={folder}",
        "--remote-debugging-pipe",
    ]
    process = subprocess.Popen(
        command, pass_fds=high, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    for end in (*high, ours[0], theirs[1]):
        os.close(end)
    try:
        yield Page(ours[1], theirs[0])
    finally:
        process.terminate()
        process.wait()
        os.close(ours[1])
        os.close(theirs[0])
