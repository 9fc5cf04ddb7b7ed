"""Where a PBX shall send a call's audio."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MediaAddress:
    """One connection: `token` (a UUID) is presented once, within seconds. `rate` is 8000 or 16000 Hz, 16-bit mono both ways."""

    host: str
    port: int
    token: str
    rate: int
