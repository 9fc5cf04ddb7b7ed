"""The token, as LiveKit's own verifier reads it."""

import datetime

import jwt
import pytest
from livekit.api import TokenVerifier

from bridge.errors import Unavailable
from bridge.model.ticket import RoomTicket
from bridge.rooms.livekit_token import TOKEN_ATTRIBUTES, attributes_in_token, join_token, look_token
from bridge.rooms.options import LiveKitAccess

ACCESS = LiveKitAccess("ws://livekit", "key", "a-secret-of-thirty-two-characters!")
TICKET = RoomTicket(
    call_id="SCL_1",
    room_name="lobby 😀",
    identity="sip_+1555",
    name="Phone +1555",
    metadata="meta",
    attributes={"sip.callID": "SCL_1", "sip.callStatus": "ringing"},
    room_preset="calm",
    room_config={"agents": [{"agent_name": "helper", "metadata": "m"}], "emptyTimeout": 30},
    headers={"X-Secret": "of the caller"},
)


def test_given_a_ticket_then_livekits_verifier_finds_every_claim() -> None:
    claims = TokenVerifier(ACCESS.key, ACCESS.secret).verify(join_token(ACCESS, TICKET))
    assert (claims.identity, claims.name, claims.kind, claims.metadata) == ("sip_+1555", "Phone +1555", "sip", "meta")
    assert claims.attributes == TICKET.attributes
    assert claims.room_preset == "calm"
    assert claims.video is not None
    grants = {name: getattr(claims.video, name) for name in ("room_join", "can_publish", "can_subscribe", "can_publish_data")}
    assert all(grants.values())
    assert claims.video.can_update_own_metadata
    assert claims.video.room == "lobby 😀"
    assert not claims.video.room_create
    assert not claims.video.room_admin
    assert claims.room_config is not None
    assert claims.room_config.agents[0].agent_name == "helper"
    assert claims.room_config.empty_timeout == 30


def test_given_a_ticket_then_the_token_is_good_for_a_day_and_for_a_clock_that_is_set_to_another_zone() -> None:
    claims = jwt.decode(join_token(ACCESS, TICKET, now=1_000_000.0), options={"verify_signature": False})
    assert claims["exp"] - 1_000_000 == datetime.timedelta(hours=24).total_seconds()
    assert claims["nbf"] == 1_000_000 - 14 * 3600


def test_given_headers_and_empty_facts_then_the_token_has_neither() -> None:
    bare = RoomTicket(call_id="SCL_1", room_name="lobby", identity="sip_1", name="", headers=TICKET.headers)
    claims = jwt.decode(join_token(ACCESS, bare), options={"verify_signature": False})
    assert set(claims) == {"iss", "sub", "nbf", "exp", "kind", "video"}


def test_given_more_attributes_than_a_header_should_hold_then_the_token_has_livekits_own() -> None:
    many = {"sip.callID": "SCL_1", "sip.trunkID": "", "sip.ruleID": "SDR_1", "sip.h.x-long": "x" * TOKEN_ATTRIBUTES}
    assert attributes_in_token(many) == {"sip.callID": "SCL_1", "sip.trunkID": "", "sip.ruleID": "SDR_1"}
    assert attributes_in_token({"sip.h.x": "half a pair \ud800"}) == {"sip.h.x": "half a pair \ud800"}


def test_given_a_room_configuration_that_is_none_then_the_reason_names_it() -> None:
    ticket = RoomTicket(call_id="c", room_name="r", identity="i", name="n", room_config={"no_such_field": 1})
    with pytest.raises(Unavailable, match=r"room_config.*no_such_field"):
        join_token(ACCESS, ticket)


def test_given_a_look_then_its_token_opens_one_room_to_look_at_for_a_minute_beyond_any_zone() -> None:
    claims = jwt.decode(look_token(ACCESS, "lobby", now=1_000_000.0), options={"verify_signature": False})
    assert claims["video"] == {"roomAdmin": True, "room": "lobby"}
    assert (claims["nbf"], claims["exp"]) == (1_000_000 - 14 * 3600, 1_000_000 + 14 * 3600 + 60)


def test_given_the_access_then_its_secret_is_in_no_repr() -> None:
    assert ACCESS.secret not in repr(ACCESS)
