"""A FreeSWITCH that this machine has: the one that FREESWITCH names, or one on PATH. There is no package to fetch one from."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from bridge.errors import RoomlineError

MODULES = tuple(
    f"mod_{name}"
    for name in (
        "console", "logfile", "event_socket", "commands", "dptools", "hash", "dialplan_xml", "sofia", "loopback", "tone_stream",
        "local_stream", "sndfile", "spandsp", "xml_curl",
    )
)  # fmt: skip
"""What a PBX of ours loads."""

_FOLDERS = "/usr/local/freeswitch/bin:/opt/freeswitch/bin:/usr/local/bin"
"""Where one that was built from source lies."""

_HOW = (
    "FreeSWITCH has no package that could be fetched here. Install it (SignalWire's packages, or from source), then put it on PATH or name "
    "its binary with FREESWITCH=PATH; docs/freeswitch.md says which modules it needs"
)


class NoFreeSwitch(RoomlineError):  # noqa: N818  (a state of this machine; the text says what to do)
    """No FreeSWITCH is here."""


@dataclass(frozen=True, slots=True)
class FreeSwitch:
    """One that runs."""

    binary: str
    version: str


def get_freeswitch(environ: Mapping[str, str] = os.environ) -> FreeSwitch:
    """Raises NoFreeSwitch, whose text says what to do."""
    named = environ.get("FREESWITCH")
    binary = named or shutil.which("freeswitch", path=f"{environ.get('PATH', os.defpath)}:{_FOLDERS}")
    if not binary:
        raise NoFreeSwitch(f"there is no FreeSWITCH on this machine. {_HOW}")
    try:
        said = subprocess.run([binary, "-version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoFreeSwitch(f"{binary} does not run: {error}. {_HOW}") from error
    found = re.search(r"FreeSWITCH [Vv]ersion: (\S+)", said.stdout)
    if not found:
        raise NoFreeSwitch(f"{binary} does not say its version: {(said.stderr or said.stdout).strip()[:200]}")
    return FreeSwitch(binary, found[1].partition("~")[0])
