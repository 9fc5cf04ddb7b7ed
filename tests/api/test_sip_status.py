"""SIP statuses as errors of LiveKit's methods (livekit-sip-semantics.md §0.3)."""

import base64

import pytest
from livekit.protocol import sip

from bridge.api.sip_status import _RPC_STATUS, code_of, sip_error
from bridge.api.twirp import Code

TABLE = {
    Code.INVALID_ARGUMENT: (300, 305, 380, 400, 405, 406, 411, 413, 414, 415, 417, 420, 421, 422, 423, 424, 425, 429, 430, 439, 469),
    Code.NOT_FOUND: (301, 302, 404, 410, 481, 604),
    Code.PERMISSION_DENIED: (401, 402, 403, 433, 470, 603, 607, 608),
    Code.UNAUTHENTICATED: (407, 428, 436, 437, 438, 494),
    Code.DEADLINE_EXCEEDED: (408, 504),
    Code.FAILED_PRECONDITION: (409, 412, 482, 483, 500, 501, 502, 503, 580, 599),
    Code.OUT_OF_RANGE: (416,),
    Code.RESOURCE_EXHAUSTED: (440, 480, 486, 600),
    Code.ABORTED: (487, 491),
    Code.UNKNOWN: (100, 180, 0, 700),
}


MORE_INVALID = (484, 485, 488, 489, 493, 505, 513, 606, 399, 499, 699)


@pytest.mark.parametrize("status", MORE_INVALID)
def test_given_a_status_of_no_other_kind_then_it_is_an_invalid_argument(status: int) -> None:
    assert code_of(status) is Code.INVALID_ARGUMENT


@pytest.mark.parametrize(("code", "status"), [(code, status) for code, statuses in TABLE.items() for status in statuses])
def test_given_a_status_then_its_code_is_livekits(code: Code, status: int) -> None:
    assert code_of(status) is code


@pytest.mark.parametrize(
    ("status", "phrase", "text", "shown"),
    [
        (486, "Busy Here", "call failed: sip status: 486: Busy Here", "Busy Here"),
        (486, "", "call failed: sip status: 486 (BUSY_HERE)", "SIP_STATUS_BUSY_HERE"),
        (699, "", "call failed: sip status: 699 (699)", "699"),
    ],
)
def test_given_a_status_then_the_error_tells_it_to_people_and_to_both_generations_of_clients(
    status: int, phrase: str, text: str, shown: str
) -> None:
    detail = sip.SIPTransferError(transfer_id="STR_a", reason=sip.STR_REJECTED)
    error = sip_error("call failed", status, phrase, meta={"more": "1"}, details=[detail])
    assert str(error) == text
    assert (error.meta["sip_status_code"], error.meta["sip_status"], error.meta["more"]) == (str(status), shown, "1")
    told = _RPC_STATUS.FromString(base64.b64decode(error.meta["error_details"]))
    assert told.message == text
    found, other = sip.SIPStatus(), sip.SIPTransferError()
    assert told.details[0].Unpack(found)
    assert (found.code, found.status) == (status, phrase)
    assert told.details[1].Unpack(other)
    assert other == detail
