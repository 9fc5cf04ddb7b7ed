"""A Docker engine for the lane: the one that answers, else one of our own where dockerd is installed and we may start it.

With it come Compose (installed, else built from its public source) and base images: pulled where a registry is reached, else made of
Debian's packages. What cannot be had is said by name with the reason.
"""

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bridge.errors import RoomlineError
from bridge.testing.cache import cache_folder, lock
from bridge.testing.get_freeswitch import MODULES, NoFreeSwitch
from bridge.testing.private_apt import apt_sources

COMPOSE = "github.com/docker/compose/v2/cmd@v2.32.4"
_STARTED_WITHIN = 60.0
_BUILT_WITHIN = 1200.0
_PULLED_WITHIN = 300.0

# What Debian's own slim images leave out.
_SLIM: Final = "".join(f"path-exclude /usr/share/{name}/*\n" for name in ("man", "locale", "groff", "info", "lintian")) + (
    "path-exclude /usr/share/doc/*\npath-include /usr/share/doc/*/copyright\n"
)


_GLIBC: Final = re.compile(r"lib(c|m|dl|rt|util|pthread|resolv|anl)\.so|ld-linux")
"""What fits its own dynamic linker only."""


class NoEngine(RoomlineError):  # noqa: N818  (a state of this machine; the text says what to do)
    """No Docker engine, or nothing to build on, can be had here."""


@dataclass
class Engine:
    """`docker(…)` runs the command line against it. `missing`: public images that could not be had, and why."""

    environ: Mapping[str, str]
    own: "subprocess.Popen[bytes] | None" = None
    missing: dict[str, str] = field(default_factory=dict)

    def docker(self, *arguments: str, timeout: float = 120.0, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Raises CalledProcessError whose text is what Docker said."""
        done = subprocess.run(["docker", *arguments], capture_output=True, text=True, env=dict(self.environ), timeout=timeout, check=False)
        if check and done.returncode:
            raise AssertionError(
                f"docker {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
            )
        return done

    def stop(self) -> None:
        """Ends the engine that we have started, and no other."""
        if self.own is not None:
            self.own.terminate()
            self.own.wait(60)

    def image(self, public: str) -> str | None:
        """Its name once it is here; None where it cannot be had, which `missing` tells then."""
        if self.docker("image", "inspect", public, check=False).returncode == 0:
            return public
        try:
            pulled = self.docker("pull", "-q", public, timeout=_PULLED_WITHIN, check=False)
            reason = "" if pulled.returncode == 0 else (pulled.stderr.strip().splitlines() or ["no reason given"])[-1]
        except subprocess.TimeoutExpired:
            reason = f"not pulled within {_PULLED_WITHIN:.0f} s"
        if reason:
            self.missing[public] = reason
            return None
        return public

    def debian(self, release: str) -> str:
        """A slim Debian: the public image, else one that is made here. Raises NoEngine."""
        made = f"roomline-base/debian:{release}"
        if self.docker("image", "inspect", made, check=False).returncode == 0:
            return made
        if public := self.image(f"debian:{release}-slim"):
            return public
        self._make_debian(release, made)
        return made

    def _make_debian(self, release: str, name: str) -> None:
        if os.geteuid() != 0 or shutil.which("debootstrap") is None:
            raise NoEngine(
                f"debian:{release}-slim: {self.missing[f'debian:{release}-slim']}; and debootstrap as root, to make one, is not here"
            )
        mirror = next(word for sources in apt_sources() for word in sources.lines[0].split() if word.startswith("http"))
        # Releases that this debootstrap does not know by name are made as Debian's unstable one is.
        scripts = Path("/usr/share/debootstrap/scripts")
        script = scripts / release if (scripts / release).exists() else scripts / "sid"
        with tempfile.TemporaryDirectory(prefix="roomline-base-") as folder:
            root = Path(folder) / "root"
            _run(["debootstrap", "--variant=minbase", release, str(root), mirror, str(script)])
            _like_this_host(root)
            made = f"set -o pipefail; tar -C {root} -c . | docker import - {name}"
            _run(["bash", "-c", made], self.environ)


def get_engine() -> Engine:
    """Raises NoEngine, whose text says what to do."""
    if shutil.which("docker") is None:
        raise NoEngine("there is no docker command here: install Docker's engine and command line")
    environ = dict(os.environ)
    own = None
    if _answers(environ) != 0:
        environ, own = _start_own(environ)
    engine = Engine(environ, own)
    try:
        _get_compose(engine)
    except BaseException:
        engine.stop()
        raise
    return engine


def _answers(environ: Mapping[str, str]) -> int:
    return subprocess.run(["docker", "info"], capture_output=True, env=dict(environ), timeout=60, check=False).returncode


def _start_own(environ: dict[str, str]) -> "tuple[dict[str, str], subprocess.Popen[bytes]]":
    """A dockerd with folders of its own below the cache, so that a second run finds what the first has built."""
    dockerd = shutil.which("dockerd", path=f"{environ.get('PATH', os.defpath)}:/usr/sbin")
    if dockerd is None or os.geteuid() != 0:
        raise NoEngine("no Docker engine answers, and there is no dockerd here that we could start (as root)")
    home = cache_folder(environ) / "docker"
    runtime = Path(tempfile.mkdtemp(prefix="roomline-docker-"))
    home.mkdir(parents=True, exist_ok=True)
    socket = f"unix://{runtime}/docker.sock"
    words = [dockerd, "-H", socket, "--data-root", str(home), "--exec-root", f"{runtime}/exec", "-p", f"{runtime}/docker.pid"]
    with (runtime / "dockerd.log").open("wb") as output:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
    environ = {**environ, "DOCKER_HOST": socket}
    deadline = time.monotonic() + _STARTED_WITHIN
    while _answers(environ) != 0:
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            last = (runtime / "dockerd.log").read_text(errors="replace").splitlines()[-3:]
            raise NoEngine("dockerd does not start here: " + " | ".join(last))
        time.sleep(0.5)
    return environ, process


def _get_compose(engine: Engine) -> None:
    """Docker's own plug-in, else one built from its source: a folder of configuration of our own names it."""
    if engine.docker("compose", "version", check=False).returncode == 0:
        return
    go = shutil.which("go", path=f"{os.environ.get('PATH', os.defpath)}:/usr/local/go/bin")
    if go is None:
        raise NoEngine("docker has no compose plug-in here, and there is no Go to build one with")
    folder = cache_folder(os.environ) / "docker-config"
    plugin = folder / "cli-plugins" / "docker-compose"
    plugin.parent.mkdir(parents=True, exist_ok=True)
    with lock(folder / "lock", "Compose", lambda line: None):
        if not plugin.is_file():
            with tempfile.TemporaryDirectory(prefix="compose-", dir=folder) as work:
                _run([go, "install", COMPOSE], {**os.environ, "GOBIN": work, "CGO_ENABLED": "0", "GOFLAGS": "-trimpath"})
                (Path(work) / "cmd").rename(plugin)
    engine.environ = {**engine.environ, "DOCKER_CONFIG": str(folder)}


def _like_this_host(root: Path) -> None:
    """How this host reaches its mirrors counts for what is built on the image too: its certificates, and whether apt minds old lists."""
    certificates = Path("/usr/local/share/ca-certificates")
    if certificates.is_dir():
        shutil.copytree(certificates, root / "usr/local/share/ca-certificates", dirs_exist_ok=True)
        (root / "etc/pip.conf").write_text("[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n")
    (root / "etc/apt/apt.conf.d/80like-the-host").write_text('Acquire::Check-Valid-Until "false";\n')
    (root / "etc/dpkg/dpkg.cfg.d").mkdir(parents=True, exist_ok=True)
    (root / "etc/dpkg/dpkg.cfg.d/slim").write_text(_SLIM)
    for name in ("doc", "man", "info", "locale", "groff", "lintian"):
        shutil.rmtree(root / "usr/share" / name, ignore_errors=True)
    for name in ("var/cache/apt/archives", "var/lib/apt/lists"):
        for path in (root / name).iterdir():
            if path.is_file():
                path.unlink()


def gather_freeswitch(binary: Path, folder: Path) -> None:
    """The programs `freeswitch` and `fs_cli`, modules in `mod`, and in `lib` what they are linked with but glibc. Raises NoFreeSwitch."""
    modules = next(binary.resolve().parents[1].glob("lib*/**/mod/mod_sofia.so"), None)
    if modules is None:
        raise NoFreeSwitch(f"{binary} has no modules beside it")
    for name in ("mod", "lib"):
        (folder / name).mkdir()
    programs = {"freeswitch": binary, "fs_cli": binary.with_name("fs_cli")}
    for name, path in programs.items():
        shutil.copy(path, folder / name)
    loaded = [path for name in MODULES if (path := modules.with_name(f"{name}.so")).is_file()]
    for path in loaded:
        shutil.copy(path, folder / "mod")
    said = subprocess.run(["ldd", *programs.values(), *loaded], capture_output=True, text=True, timeout=60, check=True).stdout
    for path in set(re.findall(r"=> (/\S+) \(", said)):
        if not _GLIBC.match(Path(path).name):
            shutil.copy(path, folder / "lib")


def _run(command: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
    try:
        subprocess.run(
            command, capture_output=True, text=True, env=None if environ is None else dict(environ), timeout=_BUILT_WITHIN, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        raise NoEngine(f"{Path(command[0]).name} failed: {said[-1] if said else error}") from error
