"""A session that never comes to be. What a room says is tests/real/test_livekit.py's: it takes a LiveKit."""

import asyncio

import pytest
import structlog
from livekit import rtc

from bridge.errors import Unavailable
from bridge.model.ticket import RoomTicket
from bridge.rooms import livekit_session
from bridge.rooms.livekit_audio import PublicWay
from bridge.rooms.livekit_session import LiveKitSession
from tests.rooms.test_livekit_seat import ACCESS


async def test_given_a_join_that_the_sdk_never_ends_then_whoever_leaves_is_let_go_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = asyncio.Event()

    async def connect(*_given: object, **_named: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    monkeypatch.setattr(rtc.Room, "connect", connect)
    monkeypatch.setattr(livekit_session, "JOIN_END_LIMIT", 0.05)
    ticket = RoomTicket(call_id="SCL_1", room_name="r", identity="i", name="n")
    session = LiveKitSession(ticket, 8000, PublicWay(), lambda _news: None)
    with pytest.raises(Unavailable, match=r"did not let the caller in within 0\.01 s"):
        await session.join(ACCESS, 0.01)
    assert not ended.is_set(), "the SDK would join all the same"
    with structlog.testing.capture_logs() as logs:
        await asyncio.wait_for(session.close(), 20.0)
    await asyncio.wait_for(ended.wait(), 20.0)
    assert [(line["log_level"], line["event"].partition(":")[0]) for line in logs] == [("warning", "the SDK does not end a join")]
    assert session.why_over == "client_initiated"
