"""docs/systemd's units under a real systemd, in a container: with LiveKit's rooms, so that the native SDK is tried within their limits."""

import re
import subprocess
from collections.abc import Iterator

import pytest

from bridge.testing.hearing import MUSIC
from tests.real.docker.composition import DOCKER, Composition
from tests.real.docker.conftest import IMAGES
from tests.real.docker.test_livekit import FIRST, SECOND, two_callers

NAME = "roomline-lane-systemd"


class Host:
    """A container whose first process is systemd, with Roomline installed as docs/install.md says."""

    def __init__(self, livekit: Composition) -> None:
        self._docker = livekit.engine.docker

    def run(self, *words: str, check: bool = True) -> str:
        return self._docker("exec", NAME, *words, check=check).stdout.strip()

    def systemctl(self, *words: str) -> str:
        return self.run("systemctl", *words)

    def process(self, unit: str) -> str:
        return self.systemctl("show", "-p", "MainPID", "--value", unit)


@pytest.fixture(scope="module")
def host(livekit: Composition, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """In the network of the composition, in place of its own Roomline and node."""
    docker, given = livekit.engine.docker, tmp_path_factory.mktemp("host")
    file = str(IMAGES / "systemd.Dockerfile")
    docker("build", "-q", "-f", file, "--build-arg", "ROOMLINE=roomline-lane-roomline", "-t", NAME, str(IMAGES), timeout=600)
    livekit.compose("stop", "-t", "2", "roomline", "node")
    rights = ["--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined", "--cgroupns", "private"]
    places = ["--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp", "--network", f"{livekit.name}_default"]
    try:
        docker("run", "-d", "--name", NAME, *rights, *places, NAME)
        host = Host(livekit)
        host.run("sh", "-c", "until systemctl is-system-running --wait; do sleep 0.2; done", check=False)
        configuration = (DOCKER / "config" / "livekit.yaml").read_text().replace("public_host: node", f"public_host: {NAME}")
        values = livekit.settings()
        secrets = {name: values[name] for name in ("ROOMLINE_AMI_SECRET", "ROOMLINE_ARI_SECRET", "LIVEKIT_API_SECRET")}
        environment = {**secrets, "ROOMLINE_STORE_URL": values["ROOMLINE_STORE"], "LIVEKIT_URL": "ws://livekit:7880"}
        environment["ROOMLINE_HTTP__LISTEN"] = "127.0.0.1:8881"
        (given / "roomline.yaml").write_text(configuration)
        (given / "roomline.env").write_text("".join(f"{name}={value}\n" for name, value in environment.items()))
        host.run("install", "-d", "-m", "0750", "-g", "roomline", "/etc/roomline")
        for name, owner in (("roomline.yaml", ["-o", "roomline"]), ("roomline.env", [])):
            docker("cp", str(given / name), f"{NAME}:/etc/roomline/{name}.given")
            host.run("install", *owner, "-m", "0600", f"/etc/roomline/{name}.given", f"/etc/roomline/{name}")
        host.systemctl("daemon-reload")
        host.systemctl("enable", "--now", "roomline", "roomline-node@0")
        yield host
    except subprocess.SubprocessError as error:
        raise AssertionError(docker("logs", NAME, check=False).stdout) from error
    finally:
        docker("rm", "-f", NAME, check=False)
        livekit.up()


def test_given_the_pages_lines_for_a_shell_then_the_program_finds_its_file_and_its_secrets(host: Host) -> None:
    lines = re.search(r"^(set -a; .*\n.*roomline check .*)$", (DOCKER.parent / "docs" / "install.md").read_text(), re.MULTILINE)
    assert lines is not None
    assert "Calls can come." in host.run("sh", "-c", f"set -e; {lines[1]}")


async def test_given_the_units_when_the_server_is_restarted_then_the_node_and_its_callers_notice_nothing(
    livekit: Composition, host: Host
) -> None:
    host.run("sh", "-c", "until python -c \"import urllib.request as u; u.urlopen('http://127.0.0.1:8881/readyz')\"; do sleep 0.2; done")
    node, server = host.process("roomline-node@0"), host.process("roomline")
    first, second = await two_callers(livekit, lambda: host.systemctl("restart", "roomline"), talk=25.0)
    journal = host.run("journalctl", "-u", "roomline", "-u", "roomline-node@0", "--no-pager", "-n", "40")
    assert (first.status, second.status) == (0, 0), journal
    for story, other in ((first, SECOND), (second, FIRST)):
        assert story.longest_without(other) < 1.0, story.text
        assert story.heard(MUSIC) == 0
    assert host.process("roomline-node@0") == node
    assert host.process("roomline") not in (server, "0")
    host.systemctl("reload", "roomline")
    host.systemctl("stop", "roomline")
    assert host.run("ls", "/run/roomline") == "node-0.sock", "the nodes' sockets went with the server"
    limits = host.run("cat", f"/proc/{node}/status")
    assert "CapEff:\t0000000000000000" in limits
    assert "NoNewPrivs:\t1" in limits
    assert "Seccomp:\t2" in limits
    host.systemctl("stop", "roomline-node@0")
    assert host.systemctl("show", "-p", "Result", "--value", "roomline-node@0") == "success", "it had no call left to wait for"
