"""The directory that FreeSWITCH asks: who may ask, who is found, and what a caller can write into an answer (nothing)."""

import hashlib
from base64 import b64encode
from collections.abc import AsyncIterator
from urllib.parse import quote_from_bytes, urlencode
from xml.etree.ElementTree import Element, fromstring

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from bridge.api.directory import BODY_LIMIT, PATH, Directory, cannot_answer
from bridge.api.options import DirectoryOptions
from bridge.model.credentials import TrunkCredentials

SECRET = "a-secret-of-the-directory-7391"
PASSWORD = "a-password-of-a-trunk-5520"

QUESTION = {  # freeswitch/d_xml_curl_http.txt, digest_ok
    "hostname": "vm",
    "section": "directory",
    "tag_name": "domain",
    "key_name": "name",
    "key_value": "trunk.test",
    "action": "sip_auth",
    "sip_profile": "trunk",
    "sip_auth_username": "acme",
    "sip_auth_realm": "trunk.test",
    "sip_from_user": "+15551230001",
    "sip_request_user": "+15550100",
    "X-Trunk-Hint": "h1",
    "sip_auth_method": "INVITE",
    "client_port": "5201",
    "key": "id",
    "user": "acme",
    "domain": "trunk.test",
    "ip": "203.0.113.9",
}


def trunk(trunk_id: str = "ST_acme", username: str = "acme", **more: tuple[str, ...]) -> TrunkCredentials:
    return TrunkCredentials(trunk_id, username, PASSWORD, **more)  # type: ignore[arg-type]  # numbers and addresses


class Store:
    away = False

    def __call__(self) -> bool:
        return self.away


class Desk:
    """A directory over HTTP, asked with the right secret."""

    def __init__(self, directory: Directory, store: Store, url: str, session: aiohttp.ClientSession) -> None:
        self.directory = directory
        self.store = store
        self._url = url
        self._session = session

    async def ask(self, body: bytes, password: str | None = SECRET, **headers: str) -> tuple[int, bytes]:
        if password is not None:
            headers["Authorization"] = "Basic " + b64encode(f"roomline:{password}".encode()).decode()
        async with self._session.post(self._url, data=body, headers=headers) as response:
            return response.status, await response.read()


@pytest.fixture
def options() -> DirectoryOptions:
    return DirectoryOptions(SECRET)


@pytest.fixture
async def desk(options: DirectoryOptions) -> AsyncIterator[Desk]:
    store = Store()
    directory = Directory(options, store)
    directory.keep([trunk()])
    app = web.Application()
    app.add_routes(directory.routes())
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        yield Desk(directory, store, str(server.make_url(PATH)), session)


def found(answer: bytes) -> Element | None:
    """The user in it; the rest is as FreeSWITCH wants it."""
    document = fromstring(answer)
    assert (document.tag, document.get("type")) == ("document", "freeswitch/xml")
    (section,) = document
    if section.get("name") == "result":
        assert [child.attrib for child in section] == [{"status": "not found"}]
        return None
    assert section.get("name") == "directory"
    users = section.findall("./domain/groups/group/users/user")
    assert len(users) == 1
    return users[0]


def told(user: Element) -> dict[str, str | None]:
    return {
        child.get("name") or "": child.get("value") for child in (*user.findall("./params/param"), *user.findall("./variables/variable"))
    }


def digest(user: str, realm: str) -> str:
    return hashlib.md5(f"{user}:{realm}:{PASSWORD}".encode()).hexdigest()


async def test_given_a_trunks_user_when_freeswitch_asks_then_it_gets_the_hash_and_the_trunks_id(desk: Desk) -> None:
    status, answer = await desk.ask(urlencode(QUESTION).encode())
    assert status == 200
    user = found(answer)
    assert user is not None
    assert user.get("id") == "acme"
    assert told(user) == {"a1-hash": digest("acme", "trunk.test"), "allow-empty-password": "false", "trunk_id": "ST_acme"}
    assert PASSWORD.encode() not in answer
    assert fromstring(answer).findall("./section/domain")[0].get("name") == "trunk.test"


@pytest.mark.parametrize(
    "other",
    [
        {"user": "ghost", "sip_auth_username": "ghost"},
        {"user": "ACME", "sip_auth_username": "ACME"},
        {"user": "", "sip_auth_username": ""},
        {"sip_auth_username": "ghost"},
        {"section": "dialplan"},
        {"action": "message-count"},
        {"action": ""},
        {"sip_auth_method": "REGISTER"},
        {"sip_auth_method": "SUBSCRIBE"},
        {"key_value": ""},
        {"key_value": "$${event_socket_password}"},
        {"key_value": 'x"/><user id="y'},
        {"key_value": "a\nb"},
        {"key_value": "ä"},
        {"sip_auth_realm": ""},
        {"sip_auth_realm": "a\0b"},
    ],
)
async def test_given_any_other_question_when_asked_then_nobody_is_found(desk: Desk, other: dict[str, str]) -> None:
    status, answer = await desk.ask(urlencode({**QUESTION, **other}).encode())
    assert (status, found(answer)) == (200, None)


@pytest.mark.parametrize("missing", ["section", "action", "sip_auth_method", "sip_auth_username", "user", "key_value", "sip_auth_realm"])
async def test_given_half_a_question_when_asked_then_nobody_is_found(desk: Desk, missing: str) -> None:
    _, answer = await desk.ask(urlencode({name: value for name, value in QUESTION.items() if name != missing}).encode())
    assert found(answer) is None


async def test_given_a_header_of_the_callers_with_a_name_of_ours_when_asked_then_freeswitchs_own_counts(desk: Desk) -> None:
    body = urlencode([*QUESTION.items(), ("action", "x"), ("sip_auth_username", "ghost"), ("sip_auth_method", "REGISTER")])
    _, answer = await desk.ask(body.encode())
    assert found(answer) is not None


@pytest.mark.parametrize("user", ['"', "<x>&amp;", "a' b", "ü😀", "]]>", "<!--", "a:b", "x" * 256])
async def test_given_a_users_name_that_xml_would_read_otherwise_when_answered_then_it_is_that_name(desk: Desk, user: str) -> None:
    desk.directory.keep([trunk('ST_"<&>', user)])
    _, answer = await desk.ask(urlencode({**QUESTION, "user": user, "sip_auth_username": user}).encode())
    element = found(answer)
    assert element is not None
    assert element.get("id") == user
    assert told(element) == {"a1-hash": digest(user, "trunk.test"), "allow-empty-password": "false", "trunk_id": 'ST_"<&>'}


@pytest.mark.parametrize("user", ["a\nb", "a\x00b", "a\ud800", "\ufffe", "$${password}", "x" * 257, ""])
async def test_given_a_trunk_that_freeswitch_cannot_be_told_of_when_asked_then_nobody_gets_in_and_the_log_says_why(user: str) -> None:
    assert cannot_answer(trunk(username=user))
    directory = Directory(DirectoryOptions(SECRET), Store())
    with capture_logs() as logs:
        directory.keep([trunk(username=user)])
    assert found(directory.answer({**QUESTION, "user": user, "sip_auth_username": user})) is None
    assert [line["trunk"] for line in logs] == ["ST_acme"]


@given(st.dictionaries(st.sampled_from(sorted(QUESTION)), st.text(max_size=40)))
def test_given_any_texts_of_a_caller_when_answered_then_it_is_well_formed_and_only_the_trunks_own_name_is_in_it(
    other: dict[str, str],
) -> None:
    directory = Directory(DirectoryOptions(SECRET), Store())
    directory.keep([trunk()])
    element = found(directory.answer({**QUESTION, **other}))
    assert element is None or (element.get("id"), told(element)["trunk_id"]) == ("acme", "ST_acme")


@given(st.binary(max_size=300))
async def test_given_any_bytes_when_asked_then_they_are_answered(body: bytes) -> None:
    directory = Directory(DirectoryOptions(SECRET), Store())
    app = web.Application()
    app.add_routes(directory.routes())
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        desk = Desk(directory, Store(), str(server.make_url(PATH)), session)
        assert (await desk.ask(body))[0] in (200, 400)


async def test_given_bytes_that_are_no_text_when_asked_then_they_are_no_users_name(desk: Desk) -> None:
    body = urlencode({**QUESTION, "user": "", "sip_auth_username": ""}) + "&user=" + quote_from_bytes(b"\xff\xfe")
    assert found((await desk.ask(body.encode()))[1]) is None
    assert (await desk.ask(b"\xff\xfe"))[0] == 400


async def test_given_a_question_that_is_too_long_when_asked_then_it_is_not_read(desk: Desk) -> None:
    assert (await desk.ask(b"a=" + b"b" * BODY_LIMIT))[0] == 400
    assert (await desk.ask(b"&".join([b"a=b"] * 600)))[0] == 400


@pytest.mark.parametrize("password", [None, "", "wrong", SECRET + "x", SECRET[:-1], "ü"])
async def test_given_who_does_not_know_the_secret_when_they_ask_then_they_are_told_nothing(desk: Desk, password: str | None) -> None:
    with capture_logs() as logs:
        assert await desk.ask(urlencode(QUESTION).encode(), password) == (403, b"")
    assert [line["event"] for line in logs] == ["the directory was asked without its secret"]
    assert SECRET not in str(logs)


@pytest.mark.parametrize("authorization", ["Basic", "Basic !!!", "Bearer x", "Basic cm9vbWxpbmU=", ""])
async def test_given_a_header_that_is_no_secret_when_asked_then_it_is_none(desk: Desk, authorization: str) -> None:
    status, _ = await desk.ask(urlencode(QUESTION).encode(), None, Authorization=authorization)
    assert status == 403


@pytest.mark.parametrize("options", [DirectoryOptions(SECRET, ("192.0.2.0/24", "2001:db8::1"))])
async def test_given_a_stranger_who_knows_the_secret_when_they_ask_then_they_are_told_nothing(desk: Desk) -> None:
    assert (await desk.ask(urlencode(QUESTION).encode()))[0] == 403


async def test_given_the_store_is_away_when_asked_then_nobody_is_let_in(desk: Desk) -> None:
    desk.store.away = True
    assert (await desk.ask(urlencode(QUESTION).encode()))[0] == 503
    desk.store.away = False
    assert (await desk.ask(urlencode(QUESTION).encode()))[0] == 200


async def test_given_trunks_that_go_when_asked_then_they_are_not_found_any_more(desk: Desk) -> None:
    desk.directory.keep([])
    assert found((await desk.ask(urlencode(QUESTION).encode()))[1]) is None


@pytest.mark.parametrize(
    ("called", "source", "expected"),
    [
        ("+15550100", "192.0.2.1", "ST_one"),
        ("15550100", "192.0.2.1", "ST_one"),
        ("+15550200", "192.0.2.1", "ST_two"),
        ("+15550300", "203.0.113.9", "ST_any"),
        ("+15550300", "198.51.100.1", "ST_other"),
        ("+15550300", "192.0.2.1", None),
    ],
)
async def test_given_trunks_with_one_user_when_asked_then_the_called_number_or_the_address_tells_which(
    called: str, source: str, expected: str | None
) -> None:
    directory = Directory(DirectoryOptions(SECRET), Store())
    directory.keep([
        trunk("ST_one", numbers=("+15550100",)),
        trunk("ST_two", numbers=("+15550200",)),
        trunk("ST_any", addresses=("203.0.113.0/24",)),
        trunk("ST_other", addresses=("198.51.100.1",)),
    ])  # fmt: skip
    element = found(directory.answer({**QUESTION, "sip_request_user": called, "ip": source}))
    assert (None if element is None else told(element)["trunk_id"]) == expected


def test_given_options_when_shown_then_the_secret_is_not() -> None:
    assert SECRET not in repr(DirectoryOptions(SECRET))
