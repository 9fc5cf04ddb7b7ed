"""Where channels are: with us, fallen back, or taken elsewhere by somebody else. Read from the answer to Status (22.10, measured).

A Redirect leaves our time limit on the channel. A Bridge leaves even its context: only the bridge shows it, and when that ends, the
channel goes on in our dialplan.
"""

from collections.abc import Sequence
from enum import Enum, auto

from bridge.pbx.asterisk.wire import Event

CONTEXTS = frozenset(f"roomline-{name}" for name in ("park", "ring", "media", "lost", "transfer", "called", "watch"))
"""Where a call is ours; not the fallback."""


class Place(Enum):
    """Whose a channel is."""

    OURS = auto()
    FALLBACK = auto()
    TAKEN = auto()


class Places:
    """All channels of a PBX as they were at one moment."""

    def __init__(self, channels: Sequence[Event]) -> None:
        self.channels = {channel["Uniqueid"]: channel for channel in channels}
        self._bridges: dict[str, set[str]] = {}
        for channel in channels:
            if channel["BridgeID"]:
                self._bridges.setdefault(channel["BridgeID"], set()).add(channel["Channel"])

    def place(self, channel: Event, *, audio_gone: bool = False) -> Place:
        """`audio_gone`: for so long that no bridge it is in can be that of its audio."""
        bridged = self._bridged_by_somebody(channel) or (audio_gone and channel["BridgeID"] != "")
        if channel["Context"] in CONTEXTS and not bridged:
            return Place.OURS
        # The fallback takes our limit off before it hands a call on; whoever takes one away knows nothing of it.
        return Place.TAKEN if bridged or has_time_limit(channel) else Place.FALLBACK

    def ours(self) -> Sequence[Event]:
        return [channel for channel in self.channels.values() if self.place(channel) is Place.OURS]

    def with_limits_elsewhere(self) -> Sequence[Event]:
        """Those that may bear a time limit of ours where they are nobody's business of ours."""
        return [channel for channel in self.channels.values() if has_time_limit(channel) and self.place(channel) is not Place.OURS]

    def _bridged_by_somebody(self, channel: Event) -> bool:
        """A wideband caller is in a bridge with the AudioSocket that was dialled for them, and alone in it while that comes or goes."""
        others = self._bridges.get(channel["BridgeID"], set()) - {channel["Channel"]}
        if any(name.startswith("AudioSocket/") for name in others):
            return False
        return bool(others) or (channel["BridgeID"] != "" and channel["Application"] != "Dial")


def has_time_limit(channel: Event) -> bool:
    return channel["TimeToHangup"] not in ("", "0")
