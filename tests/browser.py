"""A headless Chromium, driven by the WebDriver protocol (w3.org/TR/webdriver2) through Debian's chromedriver."""

import base64
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from servers import START_TIMEOUT, free_port, running, wait_until

DRIVER = shutil.which("chromedriver")
WIDTH, HEIGHT = 1200, 1000  # pixels
PATIENCE = 20  # seconds for a page to show something


class Browser:
    """One tab."""

    def __init__(self, session_url: str) -> None:
        self._session_url = session_url

    def _ask(self, method: str, path: str, **body: Any) -> Any:
        answer = requests.request(
            method, f"{self._session_url}{path}", json=body if method == "POST" else None, timeout=60
        )
        value = answer.json()["value"]
        assert answer.ok, value
        return value

    def open(self, url: str) -> None:
        """Open the page, with a console that is empty."""
        self._ask("POST", "/url", url="about:blank")
        self.console()
        self._ask("POST", "/url", url=url)

    def run(self, script: str) -> Any:
        """Run the body of a function in the page; return what it returns."""
        return self._ask("POST", "/execute/sync", script=script, args=[])

    def text(self) -> str:
        """Return what a person sees."""
        return self.run("return document.body.innerText")

    def wait_for(self, text: str) -> str:
        """Return the page's text when it shows this."""
        return wait_until(lambda: (shown := self.text()) and text in shown and shown, PATIENCE, f"the page: {text}")

    def click(self, selector: str) -> None:
        found = self._ask("POST", "/element", using="css selector", value=selector)
        self._ask("POST", f"/element/{next(iter(found.values()))}/click")

    def console(self) -> list[str]:
        """Return the errors and warnings since the last call."""
        return [entry["message"] for entry in self._ask("POST", "/se/log", type="browser")]

    def photograph(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._ask("GET", "/screenshot")))


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """Run a browser with an empty profile; its log and the driver's are in the folder."""
    port = free_port()
    driver_url = f"http://127.0.0.1:{port}"
    options = {
        "args": ["--headless=new", f"--window-size={WIDTH},{HEIGHT}", "--no-sandbox", "--disable-dev-shm-usage"],
    }
    capabilities = {
        "browserName": "chrome",
        "goog:chromeOptions": options,
        "goog:loggingPrefs": {"browser": "WARNING"},
        "unhandledPromptBehavior": "ignore",
    }
    with running([DRIVER, f"--port={port}"], folder / "chromedriver.log"):
        wait_until(lambda: _is_ready(driver_url), START_TIMEOUT, "chromedriver answers")
        body = {"capabilities": {"alwaysMatch": capabilities}}
        value = requests.post(f"{driver_url}/session", json=body, timeout=60).json()["value"]
        session_url = f"{driver_url}/session/{value['sessionId']}"
        try:
            yield Browser(session_url)
        finally:
            requests.delete(session_url, timeout=60)


def _is_ready(driver_url: str) -> bool:
    try:
        return requests.get(f"{driver_url}/status", timeout=5).json()["value"]["ready"]
    except requests.ConnectionError:
        return False
