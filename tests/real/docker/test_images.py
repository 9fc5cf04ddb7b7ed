"""The images: how large, what they run as, and which public ones could not be had here."""

import pytest

from tests.real.docker.composition import Composition
from tests.real.docker.engine import Engine

LARGEST = 250_000_000
"""Bytes of Roomline's image, LiveKit's SDK not counted."""


@pytest.mark.usefixtures("built")
def test_given_roomlines_image_then_it_is_small_but_for_livekits_sdk(engine: Engine) -> None:
    size = int(engine.docker("image", "inspect", "-f", "{{.Size}}", "roomline-lane-roomline").stdout)
    command = "import pathlib, livekit.rtc as r; print(sum(f.stat().st_size for f in pathlib.Path(r.__file__).parent.rglob('*.so')))"
    sdk = int(engine.docker("run", "--rm", "--entrypoint", "python", "roomline-lane-roomline", "-c", command).stdout)
    print(f"roomline: {size / 1e6:.0f} MB, of which LiveKit's SDK is {sdk / 1e6:.0f} MB")
    assert size - sdk <= LARGEST


def test_given_the_containers_then_none_runs_as_root_or_may_write_its_own_files(local: Composition) -> None:
    for service, container in local.containers().items():
        user = local.compose("exec", "-T", service, "id", "-u").stdout.strip()
        assert user != "0", f"{service} runs as root"
        assert container["HostConfig"]["ReadonlyRootfs"], f"{service} may write its own files"
        assert container["HostConfig"]["CapDrop"] == ["ALL"], service


def test_given_the_containers_then_nothing_is_published_beyond_this_machine(local: Composition) -> None:
    published = [
        (service, port, binding["HostIp"])
        for service, container in local.containers().items()
        for port, bindings in container["HostConfig"]["PortBindings"].items()
        for binding in bindings
    ]
    assert {service for service, _, _ in published} == {"asterisk", "roomline"}
    assert {address for _, _, address in published} == {"127.0.0.1"}
