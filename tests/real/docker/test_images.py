"""The images: how large they are."""

import pytest

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
