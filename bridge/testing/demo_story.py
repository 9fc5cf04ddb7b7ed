"""How the demo tells its calls to a person: one line per event with its time. What happens is `demo_calls`' business."""

import time
from collections.abc import Sequence
from functools import partial

from rich.console import Console
from rich.table import Table
from rich.text import Text

_COLOURS = {
    "caller": "cyan",
    "carrier": "blue",
    "hears": "green",
    "says": "magenta",
    "presses": "magenta",
    "Roomline": "yellow",
    "LiveKit": "yellow",
}

_PATIENCE = 2.0


class Storyteller:
    """Prints to `console`; times count from the begin of the call that is being told."""

    def __init__(self, console: Console) -> None:
        # A line is a line, however narrow the terminal: it wraps by itself, and a file keeps it whole.
        self._console = console
        self._print = partial(console.print, soft_wrap=True)
        self._since = time.monotonic()
        self._step, self._told_at = "", 0.0

    def progress(self, line: str) -> None:
        """What is being waited for. A line that differs from the one before only behind its colon (MB so far) is told every 2 s."""
        step, now = line.partition(":")[0], time.monotonic()
        if step == self._step and now - self._told_at < _PATIENCE:
            return
        self._step, self._told_at = step, now
        self._print(Text.assemble(("· ", "dim"), (line, "dim")))

    def begin(self, title: str) -> None:
        self._since = time.monotonic()
        self._console.print()
        self._print(Text(title, style="bold"))

    def tell(self, who: str, what: str, at: float | None = None) -> None:
        """One event, now or at a moment (`time.monotonic`) that has just been."""
        seconds = (time.monotonic() if at is None else at) - self._since
        self._print(Text.assemble((f"{seconds:7.2f} s  ", "dim"), (f"{who:<9}", _COLOURS.get(who, "white")), what))

    def verdict(self, problems: Sequence[str]) -> None:
        if problems:
            for problem in problems:
                self._print(Text.assemble(("        ✘  ", "bold red"), (problem, "red")))
        else:
            self._print(Text.assemble(("        ✔  ", "bold green"), ("as it should be", "green")))

    def numbers(self, address: str, lines: Sequence[tuple[str, str]]) -> None:
        """What a person can call with a softphone."""
        table = Table(title=f"Call with a softphone (no account, no password), PBX at {address}", title_justify="left", box=None)
        table.add_column("dial", style="bold cyan", no_wrap=True)
        table.add_column("and you get")
        for number, meaning in lines:
            table.add_row(f"sip:{number}@{address}", meaning)
        self._console.print()
        self._console.print(table)

    def say(self, line: str, style: str = "") -> None:
        self._print(Text(line, style=style))
