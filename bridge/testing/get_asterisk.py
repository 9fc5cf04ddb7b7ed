"""A runnable Asterisk without root: the one named, the one on PATH, or Debian's packages unpacked into a cache folder.

Unpacking leaves the host's apt untouched (state, lists and sources of our own; proxies and keys are the host's) and takes
some 16 MB and a few seconds. Tried: Debian 12 with packages of forky (Asterisk 22), an Asterisk on PATH, ASTERISK=PATH. By the
same code but untried: Debian 13, sid, Ubuntu (own suites, universe). Not possible: systems without apt; there, install one.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import RoomlineError
from bridge.testing.cache import Progress, cache_folder, lock
from bridge.testing.private_apt import Package, PrivateApt, apt_sources

OLDEST_MAJOR = 18
"""AudioSocket's application came with Asterisk 18."""

_RECIPE = 1
"""Part of the cache folder's name: raise it when what is unpacked changes."""

_NEEDED = re.compile(
    r"asterisk|asterisk-modules|libc6|libgcc-s1|libstdc\+\+6|libssl3.*|libxml2.*|libxslt1.1|libsqlite3-0|libjansson4|liburiparser1|libuuid1"
    r"|libcrypt1|libsystemd0|libcap2|libedit2|zlib1g|libzstd1|libtinfo6|libbsd0|libmd0|libsrtp2-1|libnspr4|libnss3|liblz4-1|libgcrypt20"
    r"|libgpg-error0"
)
"""Of some 160 packages in the closure, those whose libraries the binary and our modules load. A library missing from this list
(another suite, another link) is noticed after unpacking, and then the whole closure is fetched."""


class NoAsterisk(RoomlineError):  # noqa: N818  (a state of this machine; the text says what to do)
    """No Asterisk can be had here."""


@dataclass(frozen=True, slots=True)
class Asterisk:
    """An Asterisk that runs: `command` starts its binary, `modules` and `data` are what asterisk.conf must name."""

    command: tuple[str, ...]
    modules: Path
    data: Path
    version: str

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])


def get_asterisk(
    progress: Progress = lambda line: None,
    *,
    environ: Mapping[str, str] = os.environ,
    search_path: bool = True,
) -> Asterisk:
    """The first of: the binary that ASTERISK names, one on PATH (18 or newer with AudioSocket), one in the cache, one unpacked now.

    Blocks for up to a minute when it has to download: call it in a thread. Raises `NoAsterisk`, whose text says what to do.
    """
    if named := environ.get("ASTERISK"):
        return _installed(Path(named))
    if search_path and (found := shutil.which("asterisk", path=_search_path(environ))):
        try:
            return _installed(Path(found))
        except NoAsterisk as error:
            progress(f"not using {found}: {error}")
    return _cached(cache_folder(environ), progress)


def _search_path(environ: Mapping[str, str]) -> str:
    return ":".join((environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))


def _installed(binary: Path) -> Asterisk:
    version = _version((str(binary),))
    prefix = binary.resolve().parent.parent
    folders = [prefix / "lib" / "asterisk" / "modules", prefix / "lib64" / "asterisk" / "modules"]
    folders += sorted((prefix / "lib").glob("*-linux-*/asterisk/modules"))
    modules = next((folder for folder in folders if (folder / "app_audiosocket.so").is_file()), None)
    if modules is None:
        raise NoAsterisk(
            f"{binary} has no module app_audiosocket.so (looked in {', '.join(map(str, folders))}); build or install it with it"
        )
    data = next((d for d in (prefix / "share" / "asterisk", Path("/var/lib/asterisk")) if (d / "documentation").is_dir()), None)
    if data is None:
        raise NoAsterisk(f"{binary} has no data folder with its documentation (share/asterisk or /var/lib/asterisk)")
    return Asterisk((str(binary),), modules, data, version)


def _version(command: Sequence[str]) -> str:
    """`Asterisk 22.10.1~dfsg…` → `22.10.1`. Raises NoAsterisk when it does not run or is too old."""
    try:
        said = subprocess.run([*command, "-V"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoAsterisk(f"{command[-1]} does not run: {error}") from error
    found = re.search(r"Asterisk (?:certified/)?(\d+(?:\.\d+)*)", said.stdout)
    if not found:
        reason = (said.stderr or said.stdout).strip() or f"it ended with status {said.returncode}"
        raise NoAsterisk(f"{command[-1]} does not say its version: {reason}")
    version = found.group(1)
    if int(version.split(".")[0]) < OLDEST_MAJOR:
        raise NoAsterisk(f"{command[-1]} is Asterisk {version}; AudioSocket needs {OLDEST_MAJOR} or newer")
    return version


def _cached(cache: Path, progress: Progress) -> Asterisk:
    cache.mkdir(parents=True, exist_ok=True)
    home = cache / f"asterisk-{_RECIPE}-{os.uname().machine}"
    if not (home / "asterisk.json").is_file():
        # One downloads, the others wait and then find it there.
        with lock(cache / "asterisk.lock", "Asterisk", progress):
            if not (home / "asterisk.json").is_file():
                _fetch(home, cache, progress)
    facts = json.loads((home / "asterisk.json").read_text())
    return Asterisk(_loader_command(home / "root"), home / "root" / facts["modules"], home / "root" / facts["data"], facts["version"])


def _fetch(home: Path, cache: Path, progress: Progress) -> None:
    """Download and unpack into a temporary folder beside `home`, try it, then rename: `home` is whole or not there."""
    started = time.monotonic()
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise NoAsterisk(
            "no Asterisk on PATH, and this system has no apt to get one with: install Asterisk 18 or newer, "
            "or name its binary with ASTERISK=PATH"
        )
    for leftover in cache.glob("asterisk-fetch-*"):  # of a download that was killed; we hold the lock
        shutil.rmtree(leftover, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix="asterisk-fetch-", dir=cache))
    try:
        apt, packages = _find_packages(work, progress)
        needed = [package for package in packages if _NEEDED.fullmatch(package.name)]
        root = work / "home" / "root"
        _unpack(apt, needed, root, progress)
        if missing := _missing_libraries(root):
            progress(f"libraries missing ({', '.join(missing[:3])}…): fetching every package Asterisk names")
            _unpack(apt, [package for package in packages if package not in needed], root, progress)
            if missing := _missing_libraries(root):
                raise NoAsterisk(f"the packages of this suite lack {', '.join(missing)}; install Asterisk and name it with ASTERISK=PATH")
        modules = next(root.glob("usr/lib/**/asterisk/modules/app_audiosocket.so")).parent
        facts = {
            "version": _version(_loader_command(root)),
            "modules": str(modules.relative_to(root)),
            "data": "usr/share/asterisk",
        }
        (work / "home" / "asterisk.json").write_text(json.dumps(facts))
        shutil.rmtree(home, ignore_errors=True)
        (work / "home").rename(home)
        progress(f"Asterisk {facts['version']} unpacked in {time.monotonic() - started:.1f} s")
    except (OSError, subprocess.SubprocessError) as error:
        raise NoAsterisk(f"{error}; try again, or install Asterisk and name it with ASTERISK=PATH") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _find_packages(work: Path, progress: Progress) -> tuple[PrivateApt, list[Package]]:
    """The first of the suites that this system may use which has an Asterisk new enough, with everything it depends on."""
    tried = []
    for number, sources in enumerate(apt_sources()):
        apt = PrivateApt(work / f"apt{number}", sources)
        progress(f"asking {sources.name} for Asterisk")
        problem = apt.update()
        version = apt.candidate("asterisk")
        major = re.match(r"(?:\d+:)?(\d+)\.", version)
        if major and int(major.group(1)) >= OLDEST_MAJOR:
            return apt, apt.closure(["asterisk", "asterisk-modules"])
        tried.append(f"{sources.name}: {problem or (f'has Asterisk {version}' if version else 'has no Asterisk')}")
    raise NoAsterisk(
        "no Asterisk 18 or newer could be had ("
        + "; ".join(tried or ["apt knows no sources"])
        + "). With a network problem, try again when it is gone; else install Asterisk and name it with ASTERISK=PATH"
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


def _loader_command(root: Path) -> tuple[str, ...]:
    """Asterisk through its own suite's dynamic loader and C library: the host's may be older."""
    loaders = [p for folder in ("lib64", "lib", "usr/lib64", "usr/lib") for p in sorted((root / folder).glob("ld-linux*.so.*"))]
    if not loaders:
        raise NoAsterisk(f"no dynamic loader among the unpacked packages for {os.uname().machine}; name an Asterisk with ASTERISK=PATH")
    return (str(loaders[0]), "--argv0", "asterisk", "--library-path", _library_path(root), str(root / "usr/sbin/asterisk"))


def _library_path(root: Path) -> str:
    folders = [*root.glob("usr/lib/*-linux-*"), *root.glob("lib/*-linux-*")]
    return ":".join(str(folder) for folder in folders if folder.is_dir())


def _missing_libraries(root: Path) -> list[str]:
    """What the loader does not find for the binary and for the modules that link against more than the binary does."""
    command = _loader_command(root)
    loader, binary = command[0], command[-1]
    objects = [binary]
    for name in ("res_rtp_asterisk", "res_srtp", "res_crypto", "chan_pjsip", "res_http_websocket", "codec_resample", "func_uuid"):
        objects += [str(path) for path in root.glob(f"usr/lib/**/asterisk/modules/{name}.so")]
    missing = []
    for thing in objects:
        listed = subprocess.run(
            [loader, "--library-path", _library_path(root), "--list", thing],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        missing += re.findall(r"^\s*(\S+) => not found", listed.stdout, re.MULTILINE)
        missing += re.findall(r"(\S+\.so[.\d]*): cannot open shared object", listed.stderr)
    return sorted(set(missing))
