"""Whether callers could be joined into LiveKit's rooms now: asked of the LiveKit itself, without joining one."""

from collections.abc import Sequence

from bridge.errors import Unavailable
from bridge.model.finding import Finding
from bridge.rooms.livekit_lookup import LiveKitLookup, where
from bridge.rooms.options import LiveKitAccess

_WAY_THERE = "start LiveKit, or compare rooms.url with its address; from this host, `curl` of that address says OK"
_WAY_IN = "compare rooms.key and rooms.secret with LiveKit's `keys`, and the two hosts' clocks"


async def check_livekit(access: LiveKitAccess) -> Sequence[Finding]:
    """Ask, and leave. Changes nothing."""
    lookup = LiveKitLookup(access)
    try:
        await lookup.probe()
    except Unavailable as error:
        return [Finding(False, str(error), _WAY_IN if "key" in str(error) else _WAY_THERE)]
    finally:
        await lookup.close()
    return [Finding(True, f"LiveKit at {where(access)} answers and takes our key")]
