"""LiveKit's phone number service on its wire, over a real store (livekit-sip-semantics.md §8.2)."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from livekit import api
from livekit.protocol import sip
from pydantic import SecretStr

from bridge.api.auth import Grants, Keys
from bridge.api.phone_number_messages import SERVICE, message_class
from bridge.api.phone_numbers import PhoneNumbers
from bridge.api.server import serve_api
from bridge.api.sip import SipObjects
from bridge.api.twirp import Service, Twirp, TwirpError
from bridge.call.registry import random_letters
from bridge.dispatch.directory import UnknownTrunks
from bridge.dispatch.index import Index
from bridge.dispatch.outcome import VerdictKind
from bridge.model.caller import Caller
from bridge.model.phone_number import PhoneNumber, PhoneNumberStatus
from bridge.model.trunk import InboundTrunk
from bridge.store.combined import CombinedStore
from bridge.store.file import FileContents, FileStore
from bridge.store.inventory import directory_of, edited
from bridge.store.port import Edit, Inventory, ObjectStore
from bridge.store.sqlite_objects import SqliteObjects
from tests.store.objects import put, rule

SECRET = "a-secret-of-thirty-two-characters!"
NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
FREE = PhoneNumberStatus.PHONE_NUMBER_STATUS_RELEASED


class Client:
    """Asks in JSON, as `lk number` does not, or in protobuf, as it does."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def __call__(self, method: str, **asked: Any) -> Any:
        """The answer's JSON, or `code: message` of an error."""
        async with self._session.post(f"{self._url}/twirp/livekit.PhoneNumberService/{method}", json=asked) as answer:
            body = await answer.json()
            return body if answer.status == 200 else f"{body['code']}: {body['msg']}"

    async def in_protobuf(self, method: str, asked: Any, answer: str) -> Any:
        async with self._session.post(
            f"{self._url}/twirp/livekit.PhoneNumberService/{method}",
            data=asked.SerializeToString(),
            headers={"Content-Type": "application/protobuf"},
        ) as got:
            assert got.status == 200
            return message_class(answer).FromString(await got.read())


async def serving(store: ObjectStore, grants: api.SIPGrants) -> AsyncIterator[Client]:
    methods = SipObjects(store, random_letters).methods()
    services = [
        Service(SERVICE, PhoneNumbers(store, random_letters, lambda: NOON).methods()),
        Service(sip.DESCRIPTOR.services_by_name["SIP"], methods),
    ]
    async with serve_api(Twirp(services, Keys({"key": SecretStr(SECRET)})), (), "127.0.0.1", 0) as port:
        token = api.AccessToken("key", SECRET).with_sip_grants(grants).to_jwt()
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
            yield Client(session, f"http://127.0.0.1:{port}")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteObjects]:
    async with SqliteObjects(tmp_path / "roomline.db") as store:
        await store.change(
            put(
                PhoneNumber(
                    id="PN_free1", e164_format="+15550101", country_code="US", area_code="555", capabilities=("voice",), status=FREE
                ),
                PhoneNumber(id="PN_free2", e164_format="+15550102", country_code="US", area_code="666", status=FREE),
                PhoneNumber(id="PN_free3", e164_format="+4930123", country_code="DE", status=FREE),
                PhoneNumber(id="PN_free4", e164_format="+33123", status=FREE),
                PhoneNumber(id="PN_ours", e164_format="+15550199"),
                rule("SDR_lobby"),
                rule("SDR_trunk", pin="1", trunk_ids=("ST_a",)),
            )
        )
        yield store


@pytest.fixture
async def ask(store: SqliteObjects) -> AsyncIterator[Client]:
    async for client in serving(store, api.SIPGrants(admin=True)):
        yield client


def numbers(answer: Any) -> list[str]:
    return [item["e164_format"] for item in answer["items"]]


async def test_given_an_inventory_then_those_to_be_had_are_found_by_country_and_area(ask: Client) -> None:
    assert numbers(await ask("SearchPhoneNumbers", country_code="us")) == ["+15550101", "+15550102", "+33123"]
    assert numbers(await ask("SearchPhoneNumbers", country_code="US", area_code="666")) == ["+15550102", "+33123"]
    assert await ask("SearchPhoneNumbers") == "invalid_argument: the country code is missing"
    first = await ask("SearchPhoneNumbers", country_code="US", limit=1)
    rest = await ask("SearchPhoneNumbers", country_code="US", page_token=first["next_page_token"])
    assert numbers(first) + numbers(rest) == ["+15550101", "+15550102", "+33123"]
    assert rest["next_page_token"] is None
    assert "page token" in await ask("SearchPhoneNumbers", country_code="US", page_token={"token": "é"})
    assert await ask("SearchPhoneNumbers", country_code="US", limit=-1) == "invalid_argument: the limit is negative"


async def test_given_a_number_when_it_is_purchased_updated_and_released_then_its_calls_follow(ask: Client, store: SqliteObjects) -> None:
    async def taken_as() -> tuple[str, str]:
        inventory = await store.read()
        index = Index(directory_of(inventory, UnknownTrunks.ALLOW), b"k" * 32)
        verdict = index.authorise(Caller(number="+1999", called="+15550101"))
        return verdict.kind.value, verdict.phone_number.sip_dispatch_rule_id if verdict.phone_number else ""

    (bought,) = (await ask("PurchasePhoneNumber", phone_numbers=["+1 555 0101"], sip_dispatch_rule_id="SDR_lobby"))["phone_numbers"]
    assert bought["id"].startswith("PN_")
    assert (bought["status"], bought["sip_dispatch_rule_ids"]) == ("PHONE_NUMBER_STATUS_ACTIVE", ["SDR_lobby"])
    assert (bought["assigned_at"], bought["released_at"], bought["capabilities"]) == ("2026-11-20T12:00:00Z", None, ["voice"])
    assert await taken_as() == (VerdictKind.PHONE_NUMBER.value, "SDR_lobby")
    assert "+15550101" not in numbers(await ask("SearchPhoneNumbers", country_code="US"))
    assert (await ask("PurchasePhoneNumber", phone_numbers=["+15550101"])).startswith("already_exists")
    assert (await ask("GetPhoneNumber", phone_number="+15550101"))["phone_number"] == bought
    assert (await ask("GetPhoneNumber", id=bought["id"]))["phone_number"] == bought
    updated = (await ask("UpdatePhoneNumber", id=bought["id"], sip_dispatch_rule_id=""))["phone_number"]
    assert (updated["status"], updated["sip_dispatch_rule_id"]) == ("PHONE_NUMBER_STATUS_OFFLINE", "")
    assert await taken_as() == (VerdictKind.PHONE_NUMBER.value, "")
    assert await ask("ReleasePhoneNumbers", ids=[bought["id"]]) == {}
    assert (await taken_as())[0] == VerdictKind.NO_TRUNK.value
    assert "+15550101" in numbers(await ask("SearchPhoneNumbers", country_code="US"))
    # One that was ours from the beginning can be had again too.
    assert await ask("ReleasePhoneNumbers", phone_numbers=["+15550199"]) == {}
    assert "+15550199" in numbers(await ask("SearchPhoneNumbers", country_code="US"))


async def test_given_lists_then_ours_are_counted_and_the_others_there_when_asked_for(ask: Client) -> None:
    await ask("PurchasePhoneNumber", phone_numbers=["+15550101", "+15550102"], sip_dispatch_rule_id="SDR_lobby")
    listed = await ask("ListPhoneNumbers")
    assert sorted(numbers(listed)) == ["+15550101", "+15550102", "+15550199"]
    assert (listed["total_count"], listed["offline_count"]) == (3, 1)
    assert numbers(await ask("ListPhoneNumbers", statuses=["PHONE_NUMBER_STATUS_OFFLINE"])) == ["+15550199"]
    assert numbers(await ask("ListPhoneNumbers", statuses=["PHONE_NUMBER_STATUS_RELEASED"])) == ["+4930123", "+33123"]
    assert sorted(numbers(await ask("ListPhoneNumbers", sip_dispatch_rule_id="SDR_lobby"))) == ["+15550101", "+15550102"]
    page = await ask("ListPhoneNumbers", limit=2)
    assert (len(page["items"]), page["total_count"]) == (2, 3)


@pytest.mark.parametrize(
    ("method", "asked", "says"),
    [
        ("PurchasePhoneNumber", {}, "invalid_argument: the phone numbers are missing"),
        ("PurchasePhoneNumber", {"phone_numbers": ["+15550101", "+1000"]}, "not_found: phone number +1000 is not in the inventory"),
        (
            "PurchasePhoneNumber",
            {"phone_numbers": ["+15550101"], "sip_dispatch_rule_id": "SDR_x"},
            "not_found: requested SIP dispatch rule",
        ),
        (
            "PurchasePhoneNumber",
            {"phone_numbers": ["+15550101"], "sip_dispatch_rule_id": "SDR_trunk"},
            "invalid_argument: the dispatch rule",
        ),
        ("GetPhoneNumber", {}, "invalid_argument: the id or the phone number is missing"),
        ("GetPhoneNumber", {"id": "PN_x"}, "not_found: requested phone number does not exist"),
        ("UpdatePhoneNumber", {"id": "PN_ours"}, "invalid_argument: the dispatch rule is missing"),
        ("UpdatePhoneNumber", {"id": "PN_free1", "sip_dispatch_rule_id": "SDR_lobby"}, "not_found: "),
        ("ReleasePhoneNumbers", {}, "invalid_argument: the ids or the phone numbers are missing"),
        ("ReleasePhoneNumbers", {"ids": ["PN_ours", "PN_x"]}, "not_found: "),
    ],
)
async def test_given_what_cannot_be_done_then_nothing_is(ask: Client, store: SqliteObjects, method: str, asked: Any, says: str) -> None:
    before = await store.read()
    assert (await ask(method, **asked)).startswith(says)
    assert await store.read() == before


async def test_given_a_number_that_is_a_trunks_then_it_cannot_be_purchased_nor_the_other_way_round(
    ask: Client, store: SqliteObjects
) -> None:
    await store.change(put(InboundTrunk(sip_trunk_id="ST_a", numbers=("1 (555) 0101",), auth_username="u", auth_password="p")))
    refused = await ask("PurchasePhoneNumber", phone_numbers=["+15550101"])
    assert refused.startswith("invalid_argument: ")
    assert "ST_a" in refused
    methods = SipObjects(store, random_letters).methods()
    asked = sip.CreateSIPInboundTrunkRequest(trunk=sip.SIPInboundTrunkInfo(numbers=["+15550199"]))
    with pytest.raises(TwirpError, match="PN_ours and <new> conflict"):
        await methods["CreateSIPInboundTrunk"](asked, Grants(sip_admin=True))


async def test_given_a_number_to_be_had_in_the_file_then_it_can_be_purchased_and_released(tmp_path: Path) -> None:
    free = PhoneNumber(id="PN_config000000", e164_format="+15550101", country_code="US", status=FREE)
    contents = FileContents(edited(Inventory(), Edit(put=(free,))))
    async with SqliteObjects(tmp_path / "roomline.db") as stored:
        store = CombinedStore(FileStore(tmp_path / "roomline.yaml", contents, lambda: contents), stored)
        async for ask in serving(store, api.SIPGrants(admin=True)):
            (bought,) = (await ask("PurchasePhoneNumber", phone_numbers=["+15550101"]))["phone_numbers"]
            assert [number.id for number in (await stored.read()).phone_numbers.values()] == [bought["id"]]
            assert await ask("ReleasePhoneNumbers", ids=[bought["id"]]) == {}
            assert not (await stored.read()).phone_numbers


async def test_given_protobuf_then_the_numbers_of_its_fields_are_livekits(ask: Client) -> None:
    asked = message_class("ListPhoneNumbersRequest")(limit=1)
    assert asked.SerializeToString() == b"\x08\x01"
    answer = await ask.in_protobuf("ListPhoneNumbers", asked, "ListPhoneNumbersResponse")
    assert (answer.items[0].e164_format, answer.total_count, answer.HasField("next_page_token")) == ("+15550199", 1, False)
    one = message_class("PhoneNumber")(id="a", spam_score=0.5, sip_dispatch_rule_ids=["b"], status=4)
    assert one.SerializeToString() == b"\x0a\x01a\x41\x00\x00\x00\x00\x00\x00\xe0\x3f\x60\x04\x82\x01\x01b"


async def test_given_no_right_to_administer_then_unauthenticated(store: SqliteObjects) -> None:
    async for ask in serving(store, api.SIPGrants(call=True)):
        assert await ask("ListPhoneNumbers") == "unauthenticated: permissions denied"
