"""LiveKit's tokens: what they grant, and each way in which one is none (livekit-sip-semantics.md §0.2)."""

import base64
import json
import time
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from livekit import api
from pydantic import SecretStr

from bridge.api.auth import LONGEST, BadToken, Grants, Keys, make_token

SECRET = "a-secret-of-thirty-two-characters!"
KEYS = Keys({"devkey": SecretStr(SECRET), "other": SecretStr("b" * 32)})
NOW = time.time()


def token(secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    # Good for a day: some are made when the tests are collected, and the run may come to them many minutes later.
    return jwt.encode({"iss": "devkey", "sub": "me", "exp": int(NOW + 86_400), **claims}, secret, algorithm=algorithm)


def bearer(text: str) -> str:
    return f"Bearer {text}"


def test_given_a_token_of_livekits_own_client_then_its_grants() -> None:
    made = api.AccessToken("devkey", SECRET).with_identity("me").with_sip_grants(api.SIPGrants(admin=True))
    made = made.with_grants(api.VideoGrants(room_admin=True, room="lobby"))
    assert KEYS.grants(bearer(made.to_jwt())) == Grants("me", sip_admin=True, sip_call=False, room_admin=True, room="lobby")


def test_given_no_token_then_none_and_each_method_says_so() -> None:
    assert KEYS.grants(None) is None
    assert KEYS.grants(None, "") is None


def test_given_a_token_as_a_parameter_then_it_counts_where_there_is_no_header() -> None:
    assert KEYS.grants(None, token(sip={"call": True})) == Grants("me", sip_call=True)
    with pytest.raises(BadToken, match="Bearer"):
        KEYS.grants("Basic x", token())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "invalid authorization token"),
        ("x.y.z", "invalid authorization token"),
        (token("wrong secret, long enough for HS256"), "signature"),
        (token(iss="stranger"), "API key"),
        (token(iss="other"), "signature"),
        (token(exp=int(NOW - 86_400)), "expired"),
        (token(nbf=int(NOW + 86_400)), "not valid yet"),
        (token(iat=int(NOW + 86_400)), "in the future"),
        (token(exp="soon"), "no time"),
        (token(exp=10**400), "no time"),
        (token(exp=float("inf")), "no time"),
        (token(nbf=float("nan")), "no time"),
        (token(SECRET * 2, algorithm="HS512"), "signature|invalid authorization token"),
        ("a" * (LONGEST + 1), "too long"),
    ],
)
def test_given_a_token_that_is_none_then_why_and_nothing_of_it(text: str, why: str) -> None:
    with pytest.raises(BadToken, match=why) as raised:
        KEYS.grants(bearer(text))
    assert not text or text not in str(raised.value)


@pytest.mark.parametrize("name", ["none", "None", "NONE", "HS256"])
def test_given_no_signature_then_it_is_refused_whatever_it_calls_itself(name: str) -> None:
    parts = [{"alg": name, "typ": "JWT"}, {"iss": "devkey", "sip": {"admin": True}}]
    unsigned = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."
    with pytest.raises(BadToken):
        KEYS.grants(bearer(unsigned))


@pytest.mark.parametrize("exp", [None, int(NOW - 30)], ids=["no end", "thirty seconds ago"])  # an id is the same in every process
def test_given_clocks_a_little_apart_or_no_end_then_it_is_taken(exp: int | None) -> None:
    assert KEYS.grants(bearer(token(exp=exp) if exp else jwt.encode({"iss": "devkey"}, SECRET)), now=NOW) is not None


@pytest.mark.parametrize("sip", [True, "admin", {"admin": "yes"}, {"admin": 1}, []])
def test_given_grants_of_another_shape_then_they_grant_nothing(sip: object) -> None:
    assert KEYS.grants(bearer(token(sip=sip))) == Grants("me")


@given(st.text(min_size=1, max_size=200))
def test_given_any_text_then_a_bad_token_and_nothing_else(text: str) -> None:
    for header in (text, bearer(text)):
        with pytest.raises(BadToken):
            KEYS.grants(header)


@pytest.mark.parametrize(
    "grants", [Grants(), Grants(identity="me", sip_admin=True, sip_call=True), Grants(sip_call=True, room_admin=True, room="lobby")]
)
def test_given_a_token_of_our_own_then_it_grants_what_was_asked_for_and_for_so_long(grants: Grants) -> None:
    made = make_token("devkey", SecretStr(SECRET), grants, 600, now=1000.0)
    assert KEYS.grants(bearer(made), now=1599.0) == grants
    with pytest.raises(BadToken, match="expired"):
        KEYS.grants(bearer(made), now=1661.0)
