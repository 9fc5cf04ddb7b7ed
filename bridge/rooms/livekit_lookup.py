"""Who is in a LiveKit room, asked of its server over HTTP: quicker than joining, and the way to know that LiveKit is there at all.

The SDK's own session in the room is `livekit_session.py`'s.
"""

from typing import Final
from urllib.parse import urlsplit

import aiohttp
from livekit.api import LiveKitAPI, TwirpError
from livekit.api.twirp_client import TwirpErrorCode
from livekit.protocol.models import ParticipantInfo, TrackType
from livekit.protocol.room import ListParticipantsRequest

from bridge.errors import Unavailable
from bridge.rooms.livekit_token import LiveKitAccess, look_token

LIMIT: Final = 3.0
"""Seconds for one question: livekit-sip's limit for its lookups (§2.7), and well inside the 5 s that DESIGN §5 gives."""

_NOWHERE: Final = "roomline-probe"
"""A room that need not be there: asking for it shows that LiveKit answers and takes our key."""


class LiveKitLookup:
    """Keeps one HTTP session. Made inside a running loop; `close` ends it."""

    def __init__(self, access: LiveKitAccess) -> None:
        self._access = access
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=LIMIT))

    async def probe(self) -> None:
        """Raises `Unavailable`, whose text says why, when no room could be had now."""
        await self._participants(_NOWHERE)

    async def has_company(self, room_name: str, identity: str) -> bool:
        """Somebody else publishes audio there, or another phone is there (§3.4 step 3). Raises `Unavailable`."""
        others = [each for each in await self._participants(room_name) if each.identity != identity]
        return any(
            each.kind == ParticipantInfo.Kind.SIP or any(track.type == TrackType.AUDIO for track in each.tracks)
            for each in others
            if each.state in (ParticipantInfo.State.JOINED, ParticipantInfo.State.ACTIVE)
        )

    async def close(self) -> None:
        await self._session.close()

    async def _participants(self, room_name: str) -> list[ParticipantInfo]:
        """Empty where there is no such room."""
        client = LiveKitAPI.with_token(look_token(self._access, room_name), self._access.url, session=self._session)
        try:
            return list((await client.room.list_participants(ListParticipantsRequest(room=room_name))).participants)
        except TwirpError as error:
            if error.code == TwirpErrorCode.NOT_FOUND:
                return []
            raise Unavailable(_refusal(error)) from None
        except TimeoutError:
            raise Unavailable(f"LiveKit does not answer within {LIMIT:g} s ({where(self._access)})") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"LiveKit cannot be reached ({where(self._access)}): {error}") from None


def where(access: LiveKitAccess) -> str:
    """LiveKit's host and port, for a sentence: an operator may have put more into the URL than a log should see."""
    parts = urlsplit(access.url)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


def _refusal(error: TwirpError) -> str:
    if error.status in (401, 403):
        return "LiveKit refuses our key: are key and secret its own, and are both clocks right?"
    return f"LiveKit answers {error.status}: {error.message or error.code}"
