"""An apt of our own: looks packages up and downloads them without root and without touching the host's apt state.

Mirrors, proxies and keys are the host's; state, lists and sources are ours. What to do with packages is the caller's business.
"""

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_DEBIAN_KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_UBUNTU_KEYS = Path("/usr/share/keyrings/ubuntu-archive-keyring.gpg")
_STALL = 120.0
"""Seconds without a new byte after which a download is given up."""


@dataclass(frozen=True, slots=True)
class Package:
    """One package of a closure, with the size of its archive in bytes."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Sources:
    """The lines of a sources.list, with a name for people."""

    name: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """One index that the host's apt is configured to read."""

    uri: str
    suite: str
    component: str


def apt_sources() -> list[Sources]:
    """Where this system may find Asterisk, best first."""
    listed = _run(["apt-get", "indextargets", "--format", "$(REPO_URI)|$(RELEASE)|$(COMPONENT)", "Created-By: Packages"])
    targets = [Target(*line.split("|")) for line in dict.fromkeys(listed.stdout.split()) if line.count("|") == 2]
    return sources_for(_os_release(Path("/etc/os-release")), targets)


def sources_for(release: Mapping[str, str], targets: Sequence[Target]) -> list[Sources]:
    """Debian: its own suite where that may have one (bullseye's is too old, 12 and 13 have none), then forky, then sid, from the
    host's own mirror. Ubuntu: its own suites; Asterisk is in universe. `release` is what /etc/os-release says."""
    codename = release.get("VERSION_CODENAME", "")
    family = {release.get("ID", ""), *release.get("ID_LIKE", "").split()}
    if "ubuntu" in family:
        lines = [
            f"deb {_signed(_UBUNTU_KEYS)}{t.uri} {t.suite} {c}" for t in targets if t.component == "main" for c in ("main", "universe")
        ]
        return [Sources(f"Ubuntu {codename}", tuple(dict.fromkeys(lines)))] if lines else []
    mirrors = [t.uri for t in targets if t.component == "main" and "security" not in t.uri and "security" not in t.suite]
    if not mirrors:
        return []
    own = [codename] if codename and codename not in {"bullseye", "bookworm", "trixie"} else []
    suites = list(dict.fromkeys([*own, "forky", "sid"]))
    return [Sources(f"Debian {suite}", (f"deb {_signed(_DEBIAN_KEYS)}{mirrors[0]} {suite} main",)) for suite in suites]


def _signed(keys: Path) -> str:
    """Name the distribution's keyring where it stands; elsewhere apt's trusted keys count."""
    return f"[signed-by={keys}] " if keys.is_file() else ""


def _os_release(path: Path) -> dict[str, str]:
    try:
        text = path.read_text()
    except OSError:
        return {}
    return {key: value.strip("\"'") for key, _, value in (line.partition("=") for line in text.splitlines()) if value}


def _run(command: Sequence[str], environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, env=environ, timeout=300, check=False)


class PrivateApt:
    """One apt state in `folder`, reading `sources`."""

    def __init__(self, folder: Path, sources: Sources) -> None:
        self._folder = folder
        for name in ("lists/partial", "cache/archives/partial", "parts", "debs"):
            (folder / name).mkdir(parents=True)
        (folder / "status").touch()
        (folder / "sources.list").write_text("\n".join(sources.lines) + "\n")
        (folder / "apt.conf").write_text(self._configuration())
        self._environ = {**os.environ, "APT_CONFIG": str(folder / "apt.conf"), "LC_ALL": "C"}

    def update(self) -> str:
        """Read the package lists. "" or, when that failed, apt's own words about it."""
        done = _run(["apt-get", "update", "-qq"], self._environ)
        errors = [line.removeprefix("E: ") for line in done.stderr.splitlines() if line.startswith(("E:", "W:"))]
        return "" if done.returncode == 0 and not errors else (errors[0] if errors else f"apt-get ended with status {done.returncode}")

    def candidate(self, package: str) -> str:
        """The version that would be installed, "" when there is none."""
        found = re.search(r"Candidate: (\S+)", _run(["apt-cache", "policy", package], self._environ).stdout)
        return "" if not found or found.group(1) == "(none)" else found.group(1)

    def closure(self, packages: Sequence[str]) -> list[Package]:
        """The packages and all they depend on, recommendations left out."""
        listed = _run(["apt-get", "install", "-y", "-qq", "--print-uris", *packages], self._environ).stdout
        found = re.findall(r"^'[^']+' ([^_\s]+)_\S+ (\d+)", listed, re.MULTILINE)
        return [Package(name, int(size)) for name, size in found]

    def download(self, packages: Sequence[Package], progress: Callable[[int], None]) -> list[Path]:
        """Fetch and check the archives; `progress` is told the bytes there so far. Raises OSError with apt's words on failure."""
        folder = self._folder / "debs"
        with tempfile.TemporaryFile("w+") as said:
            process = subprocess.Popen(
                ["apt-get", "download", "-qq", *(package.name for package in packages)],
                cwd=folder,
                env=self._environ,
                stdout=subprocess.DEVNULL,
                stderr=said,
            )
            try:
                self._watch(process, folder, progress)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
            if process.returncode != 0:
                said.seek(0)
                raise OSError(f"downloading failed: {said.read().strip()}")
        return sorted(folder.glob("*.deb"))

    @staticmethod
    def _watch(process: subprocess.Popen[bytes], folder: Path, progress: Callable[[int], None]) -> None:
        got, changed = -1, time.monotonic()
        while True:
            try:
                process.wait(0.25)
            except subprocess.TimeoutExpired:
                now = sum(path.stat().st_size for path in folder.iterdir() if path.exists())
                if now != got:
                    got, changed = now, time.monotonic()
                    progress(got)
                elif time.monotonic() - changed > _STALL:
                    raise OSError(f"the download stands still since {_STALL:.0f} s") from None
            else:
                return

    def _configuration(self) -> str:
        """Paths of our own, and of the host's configuration only how to reach a mirror: its hooks would run in its own folders."""
        folder = self._folder
        host = _run(["apt-config", "dump", "--format", '%F "%v";%n']).stdout.splitlines()
        ways = (
            "Acquire::http",
            "Acquire::https",
            "Acquire::Retries",
            "Acquire::Check-",
            "Acquire::Force",
            "Acquire::AllowInsecure",
        )
        kept = [line for line in host if line.startswith(ways)]
        own = {
            "Dir::State": folder,
            "Dir::State::lists": folder / "lists",
            "Dir::State::status": folder / "status",
            "Dir::Cache": folder / "cache",
            "Dir::Etc::sourcelist": folder / "sources.list",
            "Dir::Etc::sourceparts": folder / "parts",
            "Dir::Etc::main": folder / "none",
            "Dir::Etc::parts": folder / "parts",
            "Dir::Etc::preferences": folder / "none",
            "Dir::Etc::preferencesparts": folder / "parts",
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "",
            "Debug::NoLocking": "true",
            "Acquire::Languages": "none",
            # Indexes of file names, icons and commands are of no use here and larger than the packages.
            "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled": "false",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
            "Acquire::IndexTargets::deb::CNF::DefaultEnabled": "false",
        }
        return "\n".join([*kept, *(f'{name} "{value}";' for name, value in own.items()), ""])
