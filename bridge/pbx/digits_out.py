"""Digits that are sent to a phone: which ones, and in what time."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

TONE: Final = 0.25
"""Seconds of a digit's tone, and of the silence behind it (livekit-sip-semantics.md §3.5)."""

PAUSE: Final = 0.5
"""Seconds of a `w`."""


async def in_their_time(digits: str) -> AsyncIterator[str]:
    """Each of `0-9 * # A-D` when it is to be sent, for `TONE`; whatever else stands there is passed over. The PBX may have us wait for the
    tone's end, or not."""
    now = asyncio.get_running_loop().time
    for digit in digits.upper():
        if digit == "W":
            await asyncio.sleep(PAUSE)
        elif digit in "0123456789*#ABCD":
            over_at = now() + 2 * TONE
            yield digit
            await asyncio.sleep(max(0.0, over_at - now()))
