"""Every command in the README and docs/ is one that docs/commands.md names, with a test that is there or a reason why none runs it. A row
is one command, word for word; only where it ends in `…` it stands for every command that begins so."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIST = ROOT / "docs" / "commands.md"
PAGES = [ROOT / "README.md", *sorted(set((ROOT / "docs").glob("*.md")) - {LIST}), *sorted((ROOT / "dialplan").glob("*/README.md"))]

PROGRAMS = (
    r"\./run|\./environment|roomline|docker|asterisk|fs_cli|systemctl|systemd-analyze|journalctl|curl|lk|pip|python3"
    r"|useradd|install|openssl|apt-get|apt|sudo|git|export|sed|cp|chmod|chown|mkdir|uv|npm|go|cd|echo|set|TOKEN"
)
COMMAND = re.compile(rf"\./environment|(?:[A-Z_]+=\S+ )*(?:{PROGRAMS})[ =].*")
"""With its environment before it."""

SPOKEN_OF = re.compile(r"\S+ …|docker compose(?: exec \w+)?")
"""Not a command, but how commands are spoken of."""

CHANGED = (
    (r"^\$ ", ""),
    (r"\s+# .*$", ""),
    (r"^/opt/roomline/bin/", ""),
    (r"^docker compose exec (?:-T )?(?:roomline|asterisk) ", ""),
)
"""What a command is written with here and there: the prompt, a comment, a place, a container."""


def commands(page: Path) -> Iterator[str]:
    """In fences for a shell, and in the text where more than a program's name stands in code."""
    text = page.read_text()
    fence = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
    for language, block in fence.findall(text):
        if language in ("", "console", "sh"):
            yield from (line.strip() for line in block.splitlines())
    yield from re.findall(r"`([^`\n]+)`", fence.sub("", text))


def plain(command: str) -> str:
    for pattern, instead in CHANGED:
        command = re.sub(pattern, instead, command)
    return command.strip()


def listed() -> dict[str, str]:
    rows = re.findall(r"^\| `([^`]+)` \| (.+) \|$", LIST.read_text(), re.MULTILINE)
    assert len(rows) == len(dict(rows)), "a command stands there twice"
    return dict(rows)


def shown() -> dict[str, Path]:
    """Command → the first page that shows it."""
    found: dict[str, Path] = {}
    for page in PAGES:
        for text in commands(page):
            if COMMAND.fullmatch(command := plain(text)) and not SPOKEN_OF.fullmatch(command):
                found.setdefault(command, page)
    return found


def is_listed(command: str, row: str) -> bool:
    return command.startswith(row[:-1]) if row.endswith("…") else command == row


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_given_a_page_then_each_of_its_commands_is_listed(page: Path) -> None:
    rows = listed()
    unknown = [command for command, first in shown().items() if first == page and not any(is_listed(command, row) for row in rows)]
    assert unknown == [], "name them in docs/commands.md, with the test that runs them or the reason why none does"


def test_given_the_list_then_its_tests_are_there_and_it_names_no_command_that_no_page_shows() -> None:
    for command, by in listed().items():
        if by.startswith("not run: ") or by == "CI does":
            continue
        assert (ROOT / by.split(",")[0]).is_file(), f"{command}: {by}"
    pages = shown()
    stale = [command for command in listed() if not any(is_listed(one, command) for one in pages)]
    assert stale == []
