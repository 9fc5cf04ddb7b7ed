"""Asterisk's documentation without what only its command line shows.

Asterisk describes each type and option of its configuration out of its documentation, and registers none without: for each it searches the
whole file. Of the 0.85 s of computing in which 22.10 starts that is 0.65 (2 cores of an AMD EPYC); in a file that holds the configuration
alone it is next to nothing. What is left out are the texts of applications, functions, events and commands.
"""

import hashlib
import shutil
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from bridge.testing.cache import Progress, lock

_CONFIGURATION = "configInfo"

_INCLUDE = "{http://www.w3.org/2001/XInclude}include"


def short_documentation(data: Path, cache: Path, progress: Progress) -> Path:
    """A data folder like `data`, with the documentation of configuration alone; made once for each state of it. Raises OSError, and
    ParseError for what is no XML."""
    home = cache / f"asterisk-data-{_state(data)}"
    if not home.is_dir():
        with lock(cache / "asterisk-data.lock", "Asterisk's documentation", progress):
            if not home.is_dir():
                _make(data, home)
    return home


def _state(data: Path) -> str:
    """Another one for another Asterisk, and for the same one in another version."""
    files = sorted((data / "documentation").glob("*.xml"))
    facts = [str(data.resolve()), *(f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files)]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def _make(data: Path, home: Path) -> None:
    """In a temporary folder beside `home`, then renamed: `home` is whole or not there."""
    work = Path(tempfile.mkdtemp(prefix=f"{home.name}-", dir=home.parent))
    try:
        for entry in data.iterdir():
            if entry.name != "documentation":
                (work / entry.name).symlink_to(entry.resolve())
        (work / "documentation").mkdir()
        for entry in (data / "documentation").iterdir():
            if entry.suffix == ".xml":
                _shorten(entry, work / "documentation" / entry.name)
            else:
                (work / "documentation" / entry.name).symlink_to(entry.resolve())
        work.chmod(0o755)
        work.rename(home)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _shorten(whole: Path, short: Path) -> None:
    tree = ElementTree.parse(whole)  # noqa: S314  (a file of the program that is about to run)
    docs = tree.getroot()
    for part in list(docs):
        if part.tag != _CONFIGURATION:
            docs.remove(part)
    for parent in list(docs.iter()):
        for child in list(parent):
            # What it points to is not there any more, and a pointer to nothing has the whole file refused.
            if child.tag == _INCLUDE and f"/docs/{_CONFIGURATION}" not in child.get("xpointer", ""):
                parent.remove(child)
    tree.write(short, encoding="utf-8", xml_declaration=True)
