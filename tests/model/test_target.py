"""Who may be called: the grammar of targets, and the operator's patterns."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.model.target import LONGEST, AllowedTargets, InvalidTarget, Target, TargetRefused


@pytest.mark.parametrize(
    ("text", "parts", "sent"),
    [
        ("tel:+15105550100", ("tel", "+15105550100", ""), "tel:+15105550100"),
        ("<tel:+1-510-555.0100>", ("tel", "+15105550100", ""), "tel:+15105550100"),
        ("tel:+1 ".strip() + "(510)5550100;ext=12", ("tel", "+15105550100", ""), "tel:+15105550100;ext=12"),
        ("tel:200;phone-context=example.com", ("tel", "200", ""), "tel:200;phone-context=example.com"),
        ("tel:*97#", ("tel", "*97#", ""), "tel:*97#"),
        ("sip:+15105550100@sip.example.com", ("sip", "+15105550100", "sip.example.com"), "<sip:+15105550100@sip.example.com>"),
        ("<sips:Desk@SIP.Example.com:5061>", ("sips", "Desk", "sip.example.com"), "<sips:Desk@sip.example.com:5061>"),
        ("sip:a@[2001:db8::1]:5060;lr", ("sip", "a", "[2001:db8::1]"), "<sip:a@[2001:db8::1]:5060;lr>"),
        ("sip:a@192.0.2.1;transport=tcp;lr;ttl=60", ("sip", "a", "192.0.2.1"), "<sip:a@192.0.2.1;transport=tcp;lr;ttl=60>"),
        ("sip:a%20b@h?X-Reason=lunch%20break", ("sip", "a%20b", "h"), "<sip:a%20b@h?X-Reason=lunch%20break>"),
        ("sip:a@h?Replaces=abc%40h%3Bto-tag%3D1", ("sip", "a", "h"), "<sip:a@h?Replaces=abc%40h%3Bto-tag%3D1>"),
    ],
)
def test_given_a_target_of_the_grammar_then_its_parts_and_how_it_is_sent(text: str, parts: tuple[str, str, str], sent: str) -> None:
    target = Target.parse(text)
    assert (target.scheme, target.user, target.host) == parts
    assert target.name_address == sent
    assert Target.parse(sent) == target


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<>",
        "5105550100",
        "http://example.com",
        "SIP:a@h",
        "mailto:a@h",
        "sip:",
        "sip:h",
        "sip:@h",
        "sip:a@",
        "sip:a@h@h",
        "sip:a@-h",
        "sip:a@h..h",
        "sip:a@h:",
        "sip:a@h:0",
        "sip:a@h:65536",
        "sip:a@h:5060x",
        "sip:a@[::1",
        "sip:a@[::1]x",
        "sip:a b@h",
        "sip:a,b@h",
        "sip:a&PJSIP/b@h",
        "sip:a|b@h",
        "sip:a;b@h",
        "sip:a/b@h",
        "sip:${HANGUPCAUSE}@h",
        "sip:a%0d%0aX-Evil:1@h",
        "sip:a%00@h",
        "sip:a%7f@h",
        "sip:a%c3%a4@h",
        "sip:ä@h",
        "sip:a%@h",
        'sip:"a"@h',
        "sip:a\\b@h",
        "sip:a@h\r\nX-Evil: 1",
        "sip:a@h\0",
        "sip:a@h>",
        "sip:a@h>,<sip:b@h",
        "sip:a@h;",
        "sip:a@h;a=b=c",
        "sip:a@h;maddr=192.0.2.9",
        "sip:a@h;MADDR=192.0.2.9",
        "sip:a@h;method=BYE",
        "sip:a@h?",
        "sip:a@h?X-A",
        "sip:a@h?X-A=1&X-B=2",
        "sip:a@h?Route=sip:b@h",
        "sip:a@h?From=sip:b@h",
        "sip:a@h?X-A=%0d%0aRoute:",
        "tel:",
        "tel:+",
        "tel:++1",
        "tel:1+1",
        "tel:+1 510",
        "tel:alice",
        "tel:+1;",
        "tel:+1,,200",
        "tel:+1?X-A=1",
        "tel:5550100;phone-context=+1900",
        "tel:5550100;Phone-Context=+1900",
        "sip:" + "a" * LONGEST + "@h",
    ],
)
def test_given_anything_else_then_it_is_refused(text: str) -> None:
    with pytest.raises(InvalidTarget):
        Target.parse(text)


@given(st.text(max_size=60) | st.from_regex(r"(sip:|tel:|<sip:)[ -~]{0,40}>?", fullmatch=True))
def test_given_any_text_then_what_passes_holds_nothing_a_dialplan_or_a_header_reads_as_more(text: str) -> None:
    try:
        target = Target.parse(text)
    except InvalidTarget:
        return
    assert re.fullmatch(r"[!#%'*+.0-9:;=?@A-Z\[\]_`a-z~-]+", target.uri)
    assert target.uri.count("@") == (target.scheme != "tel") + target.tail.partition("?")[2].count("@")
    assert Target.parse(target.name_address) == target


@pytest.mark.parametrize(
    ("patterns", "target", "allowed"),
    [
        ([], "tel:+15105550100", False),
        ([], "sip:a@h", False),
        (["+1510*"], "tel:+1-510-555-0100", True),
        (["+1510*"], "tel:+1900555", False),
        (["+1510*"], "sip:+15105550100@premium.example", False),  # who says where is not said by a number's pattern
        (["+1510*@sip.example.com"], "sip:+15105550100@SIP.example.com:5061;transport=tcp", True),
        (["+1510*@sip.example.com"], "sip:+1900@sip.example.com", False),
        (["+1510*@sip.example.com"], "sip:+1510@sip.example.com.evil.example", False),
        (["+1510*@sip.example.com"], "sip:+1510@sipxexample.com", False),
        (["+1510*@sip.example.com"], "tel:+1510", False),
        (["*"], "tel:+1", True),
        (["*"], "sip:a@h", False),
        (["*@*"], "sip:a@h", True),
        (["*@*.example.com"], "sip:a@b.c.example.com", True),
        (["2??"], "tel:200", True),
        (["2??"], "tel:2000", False),
        (["a", "b@h"], "sip:b@h", True),
        (["*@[2001:db8::1]"], "sip:a@[2001:DB8::1]", True),
    ],
)
def test_given_patterns_then_only_what_one_of_them_fits_may_be_called(patterns: list[str], target: str, allowed: bool) -> None:
    found = Target.parse(target)
    assert AllowedTargets(patterns).allows(found.user, found.host) is allowed


def test_given_a_refused_target_then_the_sentence_names_the_setting_and_what_would_fit() -> None:
    with pytest.raises(TargetRefused, match=r'\+1900555@h may not be called: .*outbound\.allow.*"\*@h"'):
        AllowedTargets(["+1*"]).check("+1900555", "h")
    AllowedTargets(["*@h"]).check("+1900555", "h")


@pytest.mark.parametrize("pattern", ["", "@h", "a@", "a b", "sip:a@h", "<a@h>", "[0-9]*", "a@h@h"])
def test_given_a_pattern_that_is_none_then_it_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidTarget):
        AllowedTargets([pattern])
