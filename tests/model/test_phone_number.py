"""Numbers of our own."""

import pytest

from bridge.model.phone_number import PhoneNumber, PhoneNumberStatus


@pytest.mark.parametrize(
    ("status", "takes_calls"),
    [("UNSPECIFIED", True), ("ACTIVE", True), ("OFFLINE", True), ("PENDING", False), ("RELEASED", False)],
)
def test_given_a_status_when_a_call_comes_then_only_numbers_that_are_ours_take_it(status: str, takes_calls: bool) -> None:
    number = PhoneNumber.model_validate({"e164Format": "+1", "status": f"PHONE_NUMBER_STATUS_{status}"})
    assert number.status is PhoneNumberStatus[f"PHONE_NUMBER_STATUS_{status}"]
    assert number.takes_calls is takes_calls
