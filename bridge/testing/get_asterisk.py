"""A runnable Asterisk without root: the one named, the one on PATH, or Debian's packages unpacked into a cache folder.

Unpacking takes some 16 MB and a few seconds. Tried: Debian 12 with packages of forky (Asterisk 22), an Asterisk on PATH, ASTERISK=PATH.
By the same code but untried: Debian 13, sid, Ubuntu (own suites, universe). Not possible: systems without apt; there, install one.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree.ElementTree import ParseError

from bridge.errors import RoomlineError
from bridge.testing.asterisk_documentation import short_documentation
from bridge.testing.cache import Progress, cache_folder
from bridge.testing.unpacked import CannotUnpack, Program, loader_command, unpacked

OLDEST_MAJOR = 18
"""AudioSocket's application came with Asterisk 18."""

_AUDIOSOCKET = "asterisk/modules/app_audiosocket.so"

_ASTERISK = Program(
    name="Asterisk",
    key="asterisk-1",
    packages=("asterisk", "asterisk-modules"),
    oldest_major=OLDEST_MAJOR,
    # Of some 160 packages in the closure, those whose libraries the binary and our modules load.
    needed=re.compile(
        r"asterisk|asterisk-modules|libc6|libgcc-s1|libstdc\+\+6|libssl3.*|libxml2.*|libxslt1.1|libsqlite3-0|libjansson4|liburiparser1|libuuid1"
        r"|libcrypt1|libsystemd0|libcap2|libedit2|zlib1g|libzstd1|libtinfo6|libbsd0|libmd0|libsrtp2-1|libnspr4|libnss3|liblz4-1|libgcrypt20"
        r"|libgpg-error0"
    ),
    objects=(
        "usr/sbin/asterisk",
        *(
            f"usr/lib/**/asterisk/modules/{name}.so"
            for name in ("res_rtp_asterisk", "res_srtp", "res_crypto", "chan_pjsip", "res_http_websocket", "codec_resample", "func_uuid")
        ),
    ),
)


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
    cache = cache_folder(environ)
    found = _find(environ, cache, progress, search_path=search_path)
    try:
        return replace(found, data=short_documentation(found.data, cache, progress))
    except (OSError, ParseError) as error:
        progress(f"Asterisk starts with the whole of its documentation, which takes longer: {error}")
        return found


def _find(environ: Mapping[str, str], cache: Path, progress: Progress, *, search_path: bool) -> Asterisk:
    if named := environ.get("ASTERISK"):
        return _installed(Path(named))
    if search_path and (found := shutil.which("asterisk", path=_search_path(environ))):
        try:
            return _installed(Path(found))
        except NoAsterisk as error:
            progress(f"not using {found}: {error}")
    return _unpacked(cache, progress)


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


def _unpacked(cache: Path, progress: Progress) -> Asterisk:
    try:
        root = unpacked(_ASTERISK, cache, progress)
        command = loader_command(root, "usr/sbin/asterisk", "asterisk")
    except CannotUnpack as error:
        raise NoAsterisk(f"{error}; or install Asterisk {OLDEST_MAJOR} or newer, or name its binary with ASTERISK=PATH") from error
    modules = next(root.glob(f"usr/lib/**/{_AUDIOSOCKET}")).parent
    return Asterisk(command, modules, root / "usr/share/asterisk", _version(command))
