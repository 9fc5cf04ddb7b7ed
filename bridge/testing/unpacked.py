"""Programs out of Debian's (or Ubuntu's) packages, unpacked into the cache folder and run through their own suite's dynamic loader.

No root, and the host's apt is left as it is; its own libraries may be older than the program. Which program, what counts as new enough
and what of its packages is needed is the caller's business.
"""

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import RoomlineError
from bridge.testing.cache import Progress, lock
from bridge.testing.private_apt import Package, PrivateApt, apt_sources


class CannotUnpack(RoomlineError):  # noqa: N818  (a state of this machine or its network; the text says which)
    """The packages could not be had."""


@dataclass(frozen=True, slots=True)
class Program:
    """What is to be unpacked.

    `name` is what people call it, `key` its name in the cache: another one when what is unpacked changes. The first of `packages` is asked
    for its version, which must be of `oldest_major` or newer. `needed`: of the packages' whole closure, those whose libraries are loaded;
    a library that they lack is noticed, and then the whole closure is fetched. `objects`: globs of the files whose libraries must be there.
    """

    name: str
    key: str
    packages: tuple[str, ...]
    oldest_major: int
    needed: re.Pattern[str]
    objects: tuple[str, ...]


def unpacked(program: Program, cache: Path, progress: Progress) -> Path:
    """The folder that is the packages' root: found, or made now, which takes up to a minute. Raises `CannotUnpack`."""
    home = cache / f"{program.key}-{os.uname().machine}"
    if not home.is_dir():
        # One downloads, the others wait and then find it there.
        with lock(cache / f"{program.key.partition('-')[0]}.lock", program.name, progress):
            if not home.is_dir():
                _fetch(program, home, progress)
    return home / "root"


def loader_command(root: Path, path: str, name: str) -> tuple[str, ...]:
    """What starts the program at `path` below `root`, as `name`: its suite's dynamic loader, told where its libraries lie. Raises
    `CannotUnpack`."""
    loaders = [p for folder in ("lib64", "lib", "usr/lib64", "usr/lib") for p in sorted((root / folder).glob("ld-linux*.so.*"))]
    if not loaders:
        raise CannotUnpack(f"no dynamic loader among the unpacked packages for {os.uname().machine}")
    return (str(loaders[0]), "--argv0", name, "--library-path", _library_path(root), str(root / path))


def _library_path(root: Path) -> str:
    folders = [*root.glob("usr/lib/*-linux-*"), *root.glob("lib/*-linux-*")]
    return ":".join(str(folder) for folder in folders if folder.is_dir())


def _fetch(program: Program, home: Path, progress: Progress) -> None:
    """Download and unpack into a temporary folder beside `home`, try it, then rename: `home` is whole or not there."""
    started = time.monotonic()
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise CannotUnpack(f"no {program.name} on PATH, and this system has no apt to get one with")
    prefix = f"{home.name}-fetch-"
    for leftover in home.parent.glob(f"{prefix}*"):  # of a download that was killed; we hold the lock
        shutil.rmtree(leftover, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=prefix, dir=home.parent))
    try:
        apt, version, packages = _find_packages(program, work, progress)
        needed = [package for package in packages if program.needed.fullmatch(package.name)]
        root = work / "home" / "root"
        _unpack(apt, needed, root, progress)
        if missing := _missing_libraries(program, root):
            progress(f"libraries missing ({', '.join(missing[:3])}…): fetching every package {program.name} names")
            _unpack(apt, [package for package in packages if package not in needed], root, progress)
            if missing := _missing_libraries(program, root):
                raise CannotUnpack(f"the packages of this suite lack {', '.join(missing)}")
        (work / "home").rename(home)
        progress(f"{program.name} {version} unpacked in {time.monotonic() - started:.1f} s")
    except (OSError, subprocess.SubprocessError) as error:
        raise CannotUnpack(f"{error}; try again") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _find_packages(program: Program, work: Path, progress: Progress) -> tuple[PrivateApt, str, list[Package]]:
    """The first of the suites that this system may use which has a program new enough, its version, and everything it depends on."""
    tried = []
    for number, sources in enumerate(apt_sources()):
        apt = PrivateApt(work / f"apt{number}", sources)
        progress(f"asking {sources.name} for {program.name}")
        problem = apt.update()
        version = re.sub(r"^\d+:", "", apt.candidate(program.packages[0]))
        major = re.match(r"\d+", version)
        if major and int(major[0]) >= program.oldest_major:
            return apt, re.split(r"[~+-]", version)[0], apt.closure(program.packages)
        tried.append(f"{sources.name}: {problem or (f'has {program.name} {version}' if version else f'has no {program.name}')}")
    raise CannotUnpack(
        f"no {program.name} {program.oldest_major} or newer could be had ({'; '.join(tried or ['apt knows no sources'])}). "
        "With a network problem, try again when it is gone"
    )


def _unpack(apt: PrivateApt, packages: Sequence[Package], root: Path, progress: Progress) -> None:
    total = sum(package.size for package in packages) / 1e6
    archives = apt.download(packages, lambda got: progress(f"downloading {len(packages)} packages: {got / 1e6:.0f} of {total:.0f} MB"))
    progress(f"unpacking {len(archives)} packages")
    root.mkdir(parents=True, exist_ok=True)

    def unpack(archive: Path) -> None:
        subprocess.run(["dpkg", "-x", str(archive), str(root)], check=True, capture_output=True, timeout=120)

    with ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(unpack, archives))
    for archive in archives:
        archive.unlink()


def _missing_libraries(program: Program, root: Path) -> list[str]:
    """What the loader does not find for these files, which may link against more than the program itself does."""
    missing = []
    for path in (path for pattern in program.objects for path in root.glob(pattern)):
        listed = subprocess.run(
            [loader_command(root, "", "")[0], "--library-path", _library_path(root), "--list", str(path)],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        missing += re.findall(r"^\s*(\S+) => not found", listed.stdout, re.MULTILINE)
        missing += re.findall(r"(\S+\.so[.\d]*): cannot open shared object", listed.stderr)
    return sorted(set(missing))
