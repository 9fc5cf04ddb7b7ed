"""Masks and sources beyond the conformance vectors, to the letter of Go's net/netip."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.dispatch.addresses import address_key, is_valid_mask, key_of, match_mask, match_masks, parse_address


@pytest.mark.parametrize(
    ("address", "mask", "admitted"),
    [
        ("10.0.0.9", "10.0.0.1/24", True),
        ("10.0.0.9", "0.0.0.0/0", True),
        ("10.0.0.9", "10.0.0.0/08", False),
        ("10.0.0.9", "10.0.0.0/+8", False),
        ("10.0.0.9", "10.0.0.0/33", False),
        ("10.0.0.9", "10.0.0.0/255.255.255.0", False),
        ("10.0.0.9", "10.0.0.0/٨", False),
        ("10.0.0.9", "10.0.0/24", False),
        ("10.0.0.9", "010.0.0.9", False),
        ("10.0.0.9", "::ffff:10.0.0.9", False),
        ("::ffff:10.0.0.9", "10.0.0.9", False),
        ("::ffff:10.0.0.9", "10.0.0.0/8", False),
        ("::ffff:10.0.0.9", "::ffff:0:0/96", True),
        ("10.0.0.9", "::/0", False),
        ("::1", "0.0.0.0/0", False),
        ("::1", "[::1]", False),
        ("2001:DB8::1", "2001:db8:0::1", True),
        ("fe80::1%eth0", "fe80::1", False),
        ("fe80::1%eth0", "fe80::1%eth0", True),
        ("fe80::1%eth0", "fe80::/10", False),
        ("fe80::1", "fe80::%eth0/10", False),
    ],
)
def test_given_an_address_and_a_mask_when_matched_then_families_zones_and_lengths_are_taken_exactly(
    address: str, mask: str, admitted: bool
) -> None:
    assert match_mask(address, mask) is admitted


@pytest.mark.parametrize(
    "garbage", ["", "nonsense", "10.0.0.9:5060", "[::1]", "10.0.0.09", "1" * 65_536, "10.0.0.9\r\n", "\x00", "📞", "1.2.3.4.5"]
)
def test_given_a_source_that_is_no_address_when_matched_then_it_is_admitted_as_in_livekit(garbage: str) -> None:
    assert match_masks(garbage, "", ["192.0.2.1"])
    assert not match_mask(garbage, "0.0.0.0/0")
    assert address_key(garbage) is None


def test_given_only_entries_that_cannot_be_when_matched_then_everybody_is_admitted() -> None:
    assert match_masks("192.0.2.1", "", ["*.example.com", "sip://host", "a b"])
    assert not match_masks("192.0.2.1", "", ["*.example.com", "10.0.0.0/99"])


def test_given_a_host_when_matched_then_it_is_compared_to_the_letter_and_never_to_what_cannot_be() -> None:
    assert match_masks("192.0.2.1", "sip.example.com", ["10.0.0.1", "sip.example.com"])
    assert not match_masks("192.0.2.1", "SIP.example.com", ["10.0.0.1", "sip.example.com"])
    assert not match_masks("192.0.2.1", "*.example.com", ["10.0.0.1", "*.example.com"])
    assert not match_masks("192.0.2.1", "", ["10.0.0.1"])


@pytest.mark.parametrize("mask", ["(a)", "a+b", "a;b", "a,b", "a\tb", "a\rb", "a\nb", "http://a", "a b", "*"])
def test_given_a_mask_with_a_character_of_a_pattern_when_asked_then_it_cannot_be(mask: str) -> None:
    assert not is_valid_mask(mask)


@given(st.one_of(st.ip_addresses().map(str), st.text(st.sampled_from("0123456789.:%af"), max_size=20)))
def test_given_any_text_when_read_for_look_ups_then_it_is_what_it_parses_to(text: str) -> None:
    parsed = parse_address(text)
    assert address_key(text) == (key_of(parsed) if parsed is not None else None)
