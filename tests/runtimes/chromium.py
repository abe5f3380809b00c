"""Runs a .tflite in the runtimes of a browser: headless Chromium, and page.html served on loopback."""

from __future__ import annotations

import contextlib
import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from environments import HERE, MissingError, node_modules

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

SWIFTSHADER = ("enable-unsafe-webgpu", "use-webgpu-adapter=swiftshader")
"""WebGPU on Chromium's software driver, which computes in float32 and lacks `shader-f16`."""

SCRIPT_SECONDS = 300


class Browser:
    """A browser with page.html open. Made by `browser`."""

    def __init__(self, driver: Chrome, address: str) -> None:
        self._driver, self._base = driver, address

    def read(self, reader: str, job: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Runs a job, as reader.py describes it. Returns the results of its clips, and facts about the runtime.

        Files must be in the folder that `browser` was given. A job may have `options` for the reader.

        Raises:
            RuntimeError: the runtime refuses the model.
        """
        job = job | {"clips": [clip | {"path": self._address(clip["path"])} for clip in job["clips"]]}
        job["model"] = self._address(job["model"]) if job.get("model") else None
        script = """
            const [reader, job, done] = arguments;
            read(reader, job).then((found) => done(found), (error) => done({error: String(error)}));
        """
        self._open("page.html")
        found = self._driver.execute_async_script(script, reader, job)
        if "error" in found:
            raise RuntimeError(found["error"])
        return found["results"], found["facts"]

    def printed(self, page: str) -> list[str]:
        """Opens a page of the folder that collects what it prints in `printed`. Returns that when it is `ready`."""
        self._open(page)
        lines: list[str] = self._driver.execute_script("return printed")
        return lines

    def _open(self, page: str) -> None:
        self._driver.get(self._address(page))
        self._driver.set_script_timeout(SCRIPT_SECONDS)
        self._driver.execute_async_script(
            "const done = arguments[0]; (function wait() { window.ready ? done() : setTimeout(wait, 20); })();"
        )

    def _address(self, path: str | Path) -> str:
        return f"{self._base}/{Path(path).name}"


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Opens a browser that can read the files of a folder.

    Raises:
        MissingError: no Chromium, chromedriver or npm.
    """
    from selenium import webdriver

    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not chromedriver:
        raise MissingError("no chromium and chromedriver; on Debian: apt install chromium chromium-driver")
    handler = functools.partial(_Handler, folder=folder, packages=node_modules())
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "headless", "no-sandbox", "disable-quic", "disable-dev-shm-usage", "no-first-run", "mute-audio",
        "disable-background-networking", "disable-component-update", "disable-sync", *SWIFTSHADER,
    ):  # fmt: skip
        options.add_argument(f"--{argument}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    try:
        yield Browser(driver, f"http://127.0.0.1:{server.server_address[1]}")
    finally:
        driver.quit()
        server.shutdown()


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves page.html, the npm packages, and the files of a folder."""

    extensions_map = {  # noqa: RUF012 - as in the base class
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def __init__(self, *args: Any, folder: Path, packages: Path) -> None:
        self._folder, self._packages = folder, packages
        super().__init__(*args)

    def translate_path(self, path: str) -> str:
        """Returns the file of an address."""
        name = path.split("?")[0].lstrip("/")
        if name == "page.html":
            return str(HERE / name)
        if name.startswith("node_modules/"):
            found = (self._packages.parent / name).resolve()
            return str(found if found.is_relative_to(self._packages) else self._packages / "missing")
        return str(self._folder / Path(name).name)

    def end_headers(self) -> None:
        """Forbids to keep the file: another model may follow under the same name."""
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Prints nothing."""
