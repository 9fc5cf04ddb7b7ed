"""What ships beside the program for an operator to put elsewhere: the PBX's dialplan, systemd's units.

Which folders there are and how they are copied; what the files mean stands in their own README.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

import bridge
from bridge.errors import ConfigurationError


def shipped_folders() -> Mapping[str, Path]:
    """By name (`asterisk`, `systemd`): inside the installed package, or where they stand in the source tree."""
    package = Path(bridge.__file__).parent
    dialplans = _first(package / "dialplan", package.parent / "dialplan")
    folders = {folder.name: folder for folder in sorted(dialplans.iterdir()) if folder.is_dir()}
    return {**folders, "systemd": _first(package / "systemd", package.parent / "docs" / "systemd")}


def copy_shipped(name: str, target: Path) -> list[Path]:
    """Copy the files of that folder into `target`, which is made; gives those that were written. A file that is there already with other
    contents is the operator's: nothing is written then. Raises ConfigurationError, for that and for a folder that does not ship."""
    folders = shipped_folders()
    if name not in folders:
        raise ConfigurationError(f"nothing ships as {name!r}; there are {', '.join(folders)}")
    found = {path: target / path.relative_to(folders[name]) for path in sorted(folders[name].rglob("*")) if path.is_file()}
    changed = [copy for path, copy in found.items() if copy.exists() and copy.read_bytes() != path.read_bytes()]
    if changed:
        names = ", ".join(str(copy) for copy in changed)
        raise ConfigurationError(f"not overwritten, because it differs: {names}. Copy to another folder and compare, or remove it first")
    new = {path: copy for path, copy in found.items() if not copy.exists()}
    try:
        for path, copy in new.items():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    except OSError as error:
        raise ConfigurationError(f"{error.filename}: cannot be written: {error.strerror}") from error
    return list(new.values())


def _first(*folders: Path) -> Path:
    return next(folder for folder in folders if folder.is_dir())
