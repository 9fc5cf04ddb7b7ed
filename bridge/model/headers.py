"""SIP header rules (livekit-sip-semantics.md §1.13). An error is a refusal; a soft failure is a warning that refuses nothing."""

import re
from collections.abc import Iterable, Mapping

NAME_LIMIT, VALUE_LIMIT = 255, 1024
"""Bytes."""

_NAME = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+")
_FORBIDDEN = frozenset({
    "accept", "accept-encoding", "accept-language", "allow", "allow-events", "call-id", "contact", "content-encoding",
    "content-length", "content-type", "cseq", "event", "expires", "from", "max-forwards", "record-route", "refer-to", "reply-to",
    "k", "l", "m", "o", "r", "t", "u", "v",
})  # fmt: skip
_FLAGGED = frozenset({"to", "via"})
_NAME_ADDRESS_HEADERS = frozenset({"from", "to", "contact", "route", "record-route", "reply-to", "p-asserted-identity", "referred-by"})
_TOKENS = re.compile(r"[A-Za-z0-9\-.!%*_+`'~ \t]*")
# What Go's strconv.Unquote takes between double quotes: no raw quote or line break, and its escapes.
_QUOTED = re.compile(
    r'"(?:[^"\\\n]|\\(?:[abfnrtv\\"]|x[0-9a-fA-F]{2}|u(?![dD][89a-fA-F])[0-9a-fA-F]{4}'
    r'|U(?!0000[dD][89a-fA-F])(?:000[0-9a-fA-F]|0010)[0-9a-fA-F]{4}|[0-3][0-7]{2}))*"'
)
_GO_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
_SCHEMES = frozenset({"sip", "sips", "tel"})


class InvalidHeader(ValueError):  # noqa: N818  (says what it is)
    """A header name or value that must not be used."""


def check_name(name: str, *, restrict: bool) -> tuple[str, ...]:
    """Soft failures of a header's name. `restrict`: for headers that we would send. Raises InvalidHeader."""
    if not name or len(name.encode("utf-8", "surrogatepass")) > NAME_LIMIT:
        raise InvalidHeader(f"a header name has 1 to {NAME_LIMIT} bytes")
    if _NAME.fullmatch(name) is None:
        raise InvalidHeader(f"the header name {name!r} holds a character that is not allowed")
    if restrict and name.lower() in _FORBIDDEN:
        raise InvalidHeader(f"the header {name!r} is the SIP stack's own")
    return (f"the header {name!r} should be left to the SIP stack",) if restrict and name.lower() in _FLAGGED else ()


def check_value(name: str, value: str) -> tuple[str, ...]:
    """Soft failures of a header's value; an empty one has none. Raises InvalidHeader."""
    if not value:
        return ()
    if len(value.encode("utf-8", "surrogatepass")) > VALUE_LIMIT:
        raise InvalidHeader(f"the value of {name!r} is over {VALUE_LIMIT} bytes")
    if any((ord(character) < 0x20 and character != "\t") or ord(character) == 0x7F for character in value):
        raise InvalidHeader(f"the value of {name!r} holds a control character")
    if name.lower() in _NAME_ADDRESS_HEADERS:
        try:
            check_name_address(value)
        except InvalidHeader as error:
            return (f"{name}: {error}",)
    return ()


def check_name_address(value: str) -> None:
    """A name-addr such as `"Alice" <sip:alice@example.com>`. Raises InvalidHeader."""
    opening, closing = value.count("<"), value.count(">")
    if opening > 1 or closing > 1 or opening != closing:
        raise InvalidHeader("an address has one pair of angle brackets or none")
    if opening:
        start, end = value.index("<"), value.index(">")
        if end < start:
            raise InvalidHeader("the angle brackets are the wrong way round")
        display, uri = value[:start].strip(_GO_SPACE), value[start + 1 : end]
        if display.startswith('"') or display.endswith('"'):
            if _QUOTED.fullmatch(display) is None:
                raise InvalidHeader("the display name is not a valid quoted string")
        elif _TOKENS.fullmatch(display) is None:
            raise InvalidHeader("the display name has to be quoted")
    else:
        uri = value
        if any(character in uri for character in ",? "):
            raise InvalidHeader("without angle brackets an address holds no comma, question mark or space")
    if uri.partition(":")[0] not in _SCHEMES or " " in uri:
        raise InvalidHeader("the address is no sip:, sips: or tel: URI")


def check_headers(headers: Mapping[str, str], *, restrict: bool = True) -> tuple[str, ...]:
    """Soft failures of headers that we would send. Raises InvalidHeader."""
    soft: list[str] = []
    for name, value in headers.items():
        soft += check_name(name, restrict=restrict)
        soft += check_value(name, value)
    return tuple(soft)


def check_header_names(names: Iterable[str]) -> None:
    """The headers of attribute mappings: any that can exist. Raises InvalidHeader."""
    for name in names:
        check_name(name, restrict=False)
