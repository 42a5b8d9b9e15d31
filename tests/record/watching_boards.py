"""A TensorBoard of one's own, and a browser that looks at it.

with running_board(runs, load_fast="false") as board:
    board.get("scalars/tags")
    browser.get(f"{board.url}#hparams")
    visible_text(browser)
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

CHROMIUM, CHROMEDRIVER = shutil.which("chromium"), shutil.which("chromedriver")
CHROMIUM_OPTIONS = """
    headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking
    disable-component-update disable-sync window-size=1500,1200
"""
VISIBLE_TEXT = """
    const text = (node) => node.nodeType == Node.TEXT_NODE ? node.textContent + " "
        : ["STYLE", "SCRIPT", "NOSCRIPT"].includes(node.nodeName) ? ""
        : [...(node.shadowRoot?.childNodes ?? []), ...node.childNodes].map(text).join("");
    return text(document.body)"""


class Board:
    """A running TensorBoard at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, route: str, **query: str) -> Any:
        with urlopen(f"{self.url}data/plugin/{route}?{urlencode(query)}") as reply:
            return json.load(reply)


@contextmanager
def running_board(logdir: Path, load_fast: str) -> Iterator[Board]:
    """Serves until the end of the block; skips the test where TensorBoard has no such loader."""
    if load_fast == "true" and not importlib.util.find_spec("tensorboard_data_server"):
        pytest.skip("tensorboard-data-server has no build for this platform")
    command = [sys.executable, str(Path(__file__).with_name("board.py")), str(logdir), f"--load_fast={load_fast}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            board = Board(process.stdout.readline().strip())
            assert board.url, "TensorBoard did not start"
            yield board
        finally:
            process.terminate()


def visible_text(browser: Any) -> str:
    """All text of the page, in one line."""
    return " ".join(browser.execute_script(VISIBLE_TEXT).split())


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {seconds} s in vain for {what}"
        time.sleep(0.1)
    return value
