"""Who is in a LiveKit room, asked of its server over HTTP: quicker than joining, and the way to know that LiveKit is there at all.

The SDK's own session in the room is `livekit_session.py`'s.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar
from urllib.parse import urlsplit

import aiohttp
from google.protobuf.message import DecodeError
from livekit.api import LiveKitAPI, TwirpError
from livekit.api.room_service import RoomService
from livekit.api.twirp_client import TwirpErrorCode
from livekit.protocol.models import ParticipantInfo, TrackType
from livekit.protocol.room import ListParticipantsRequest, ListRoomsRequest

from bridge.errors import Unavailable
from bridge.rooms.livekit_token import LiveKitAccess, list_token, look_token

LIMIT: Final = 3.0
"""Seconds for one question: livekit-sip's limit for its lookups (§2.7), and well inside the 5 s that DESIGN §5 gives."""

EXPLANATION_LIMIT: Final = 0.4
"""Seconds that asking for a clearer reason may take: the caller waits for the end meanwhile."""

_Answer = TypeVar("_Answer")

_NOWHERE: Final = "roomline-probe"
"""A room that need not be there: asking for it shows that LiveKit answers and takes our key."""


class LiveKitLookup:
    """Keeps one HTTP session. Made inside a running loop; `close` ends it."""

    def __init__(self, access: LiveKitAccess) -> None:
        self._access = access
        self._session = aiohttp.ClientSession()

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

    async def why_not(self, room_name: str, refused: str) -> str:
        """Why nobody was let into this room, as clearly as can be known: what the SDK says of a full room is "500"."""
        try:
            async with asyncio.timeout(EXPLANATION_LIMIT):
                rooms = await self._ask(list_token(self._access), lambda room: room.list_rooms(ListRoomsRequest(names=[room_name])))
                limit = max((room.max_participants for room in rooms.rooms), default=0) if rooms is not None else 0
                # Counted one by one: the room's own count is some seconds behind.
                here = len(await self._participants(room_name)) if limit else 0
        except TimeoutError:
            return refused
        except Unavailable as error:
            return str(error)
        return f"the room is full: {here} of {limit} participants" if 0 < limit <= here else refused

    async def close(self) -> None:
        await self._session.close()

    async def _participants(self, room_name: str) -> list[ParticipantInfo]:
        """Empty where there is no such room."""
        token = look_token(self._access, room_name)
        answer = await self._ask(token, lambda room: room.list_participants(ListParticipantsRequest(room=room_name)))
        return list(answer.participants) if answer is not None else []

    async def _ask(self, token: str, question: Callable[[RoomService], Awaitable[_Answer]]) -> _Answer | None:
        """None where there is no such thing. Raises `Unavailable`."""
        client = LiveKitAPI.with_token(token, self._access.url, session=self._session)
        try:
            # The client's own limit never runs: it hands aiohttp `timeout=None`, which is none at all (livekit-api 1.2.2).
            async with asyncio.timeout(LIMIT):
                return await question(client.room)
        except TwirpError as error:
            if error.code == TwirpErrorCode.NOT_FOUND:
                return None
            raise Unavailable(_refusal(error)) from None
        except TimeoutError:
            raise Unavailable(f"LiveKit does not answer within {LIMIT:g} s ({where(self._access)})") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"LiveKit cannot be reached ({where(self._access)}): {error}") from None
        except DecodeError:
            raise Unavailable(f"what answers at {where(self._access)} is no LiveKit") from None


def where(access: LiveKitAccess) -> str:
    """LiveKit's host and port, for a sentence: an operator may have put more into the URL than a log should see."""
    parts = urlsplit(access.url)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


def _refusal(error: TwirpError) -> str:
    if error.status in (401, 403):
        return "LiveKit refuses our key: are key and secret its own, and are both clocks right?"
    return f"LiveKit answers {error.status}: {error.message or error.code}"
