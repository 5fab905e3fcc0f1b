"""The console: a line that shows how far the present step is, on a terminal; a plain line now and then elsewhere."""

import sys
import time
from typing import Any

from tqdm import tqdm as base

_REDRAW_SECONDS, _PLAIN_SECONDS = 0.1, 60.0
_CLEAR = "\r\x1b[2K"


class ProgressLine:
    """How far a step is: "step 3 of 10 · ppo · epoch 2/4 · 37 % · 1:20 left · $0.12"."""

    def __init__(self) -> None:
        self.title = self._key = self._part = ""
        self._start = (0.0, 0.0)  # of a part: the time, and what was done then
        self._shown = 0.0

    def begin(self, title: str, key: str) -> None:
        """Shows another step from now on; its parts are named without its `key`."""
        self.title, self._key, self._part, self._shown = title, key, "", time.monotonic()
        if title and sys.stderr.isatty():
            self._draw([title])

    def end(self) -> None:
        """Removes the line."""
        if self.title and sys.stderr.isatty():
            print(_CLEAR, end="", file=sys.stderr, flush=True)
        self.title = self._key = ""

    def show(self, done: float, total: float, *, part: str = "", detail: str = "", usd: float = 0.0) -> None:
        """Shows that `done` of `total` are done of a part; its time is estimated from its own pace."""
        now = time.monotonic()
        part = part.removeprefix(self._key).strip()
        if part != self._part or done < self._start[1]:
            self._part, self._start = part, (now, done)
        is_last = done == total and sys.stderr.isatty()
        if now - self._shown < (_REDRAW_SECONDS if sys.stderr.isatty() else _PLAIN_SECONDS) and not is_last:
            return
        self._shown = now
        percent = f"{100 * done / total:.0f} %" if total else f"{done:,.0f}"
        cost = f"${usd:.2f}" if usd else ""
        self._draw([self.title, part, detail, percent, self._left(now, done, total), cost])

    def _draw(self, parts: list[str]) -> None:
        line = " · ".join(filter(None, parts))
        # On a terminal the cursor returns, so that whatever is printed next begins there.
        text, end = (f"{_CLEAR}{line}", "\r") if sys.stderr.isatty() else (line, "\n")
        print(text, end=end, file=sys.stderr, flush=True)

    def _left(self, now: float, done: float, total: float) -> str:
        """The time that is left, empty before there is a pace."""
        began, first = self._start
        if done <= first or not total:
            return ""
        seconds = round((now - began) / (done - first) * (total - done))
        hours, minutes = seconds // 3600, seconds // 60 % 60
        return (
            f"{hours}:{minutes:02}:{seconds % 60:02} left" if hours else f"{minutes}:{seconds % 60:02} left"
        )


progress = ProgressLine()


class tqdm(base):  # a drop-in replacement, with its name
    """tqdm, shown as a part of the present step; `usd` of its postfix is the money spent."""

    usd = 0.0

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **{**settings, "leave": False})

    def set_postfix(self, *arguments: Any, usd: float = 0.0, **values: Any) -> None:
        """Takes the money; other values are not shown."""
        self.usd = float(usd)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Shows the line instead of a bar."""
        if msg is None:
            progress.show(self.n, self.total or 0, part=self.desc.removesuffix(": "), usd=self.usd)
        return False
