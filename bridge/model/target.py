"""Where somebody may be sent: the few forms of a SIP or tel URI that are believed, and the operator's patterns for them.

Toll fraud is the first thing that an API for calls is used for, and a dialplan reads more into a text than a number: so nothing passes that
is not in the grammar below, and nothing in it that no pattern of the operator's allows. Who asks for what is the API's affair.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from bridge.model.headers import InvalidHeader, check_name

LONGEST: Final = 255
"""Characters of a target: what it travels in (a manager's line, a channel variable) has room for three times as many."""

_NUMBER: Final = re.compile(r"\+?[0-9*#A-D]+")
"""What a keypad can dial, without the separators that people put in (RFC 3966, section 5.1.1)."""

_SEPARATORS: Final = str.maketrans("", "", "-.()")

# Of RFC 3261's user: no `&`, `,`, `;`, `?`, `/`, `$` and `=`, which dial strings and dialplans read as more than a user.
USER: Final = re.compile(r"(?:[A-Za-z0-9_.!~*'+-]|%(?!0|1|7[fF])[0-7][0-9A-Fa-f])+")
"""The part before the `@`. Escaped are printable ASCII characters only."""

_HOST_NAME: Final = re.compile(r"(?=.{1,253}$)[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*")
_BRACKETED: Final = re.compile(r"\[[0-9A-Fa-f:.]{2,45}\]")
_PARAMETER: Final = re.compile(r"[A-Za-z0-9.!%*_+`'~-]+(?:=[A-Za-z0-9.!%*_+`'~:\[\]-]+)?")
_HEADER: Final = re.compile(r"(?P<name>[A-Za-z0-9.!*_+'~-]+)=(?P<value>(?:[A-Za-z0-9_.!~*'+:@-]|%(?!0|1|7[fF])[0-7][0-9A-Fa-f])*)")

_ELSEWHERE: Final = frozenset({"maddr", "method"})
"""Parameters that send a request to another place than the host says, or another request."""

_ROUTING: Final = frozenset({"route", "to", "via", "authorization", "proxy-authorization", "body"})
"""Headers that do the same, beside those that are the SIP stack's own."""


class InvalidTarget(ValueError):  # noqa: N818  (says what it is)
    """Not of the forms that are believed; the text says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """Somebody to be called. `user` is the number for `tel`, which has no `host`. `tail`: port, parameters and header as they came."""

    scheme: str
    user: str
    host: str = ""
    tail: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """A `sip:`, `sips:` or `tel:` URI, in angle brackets or not, of at most LONGEST characters. Raises InvalidTarget."""
        uri = text[1:-1] if text.startswith("<") and text.endswith(">") else text
        scheme, colon, rest = uri.partition(":")
        if not colon or scheme not in ("sip", "sips", "tel"):
            raise InvalidTarget("the target must be a SIP or tel URI: it begins with sip:, sips: or tel:")
        if len(uri) > LONGEST:
            raise InvalidTarget(f"the target has more than {LONGEST} characters")
        return cls._of_tel(rest) if scheme == "tel" else cls._of_sip(scheme, rest)

    @classmethod
    def _of_tel(cls, rest: str) -> Self:
        number, semicolon, parameters = rest.partition(";")
        digits = number.translate(_SEPARATORS)
        if _NUMBER.fullmatch(digits) is None:
            raise InvalidTarget("after tel: comes a number: digits, with a + before them where it is a whole one")
        _check_parameters(parameters, given=bool(semicolon))
        # A local number within a context of digits is another number than the one that is looked at here.
        if any(each.lower().startswith("phone-context=+") for each in parameters.split(";")):
            raise InvalidTarget("write the whole number, not a part of it and a phone-context of digits")
        return cls("tel", digits, tail=semicolon + parameters)

    @classmethod
    def _of_sip(cls, scheme: str, rest: str) -> Self:
        address, question, header = rest.partition("?")
        place, semicolon, parameters = address.partition(";")
        user, at, host_and_port = place.partition("@")
        if not at or USER.fullmatch(user) is None:
            raise InvalidTarget(f"{scheme}: is followed by a user of letters, digits and _ . ! ~ * ' + -, and an @")
        host, port = _host_and_port(host_and_port)
        _check_parameters(parameters, given=bool(semicolon))
        if question:
            _check_header(header)
        return cls(scheme, user, host, f"{port}{semicolon}{parameters}{question}{header}")

    @property
    def uri(self) -> str:
        """Without angle brackets."""
        return f"{self.scheme}:{self.user}@{self.host}{self.tail}" if self.host else f"{self.scheme}:{self.user}{self.tail}"

    @property
    def name_address(self) -> str:
        """As a header holds it: in angle brackets, without which its parameters would be the header's; a tel URI stays bare, as in
        LiveKit (livekit-sip-semantics.md §1.12)."""
        return f"<{self.uri}>" if self.host else self.uri

    def __str__(self) -> str:
        return self.uri


def _host_and_port(text: str) -> tuple[str, str]:
    """The host in lower case, and `:port` or nothing."""
    if text.startswith("["):
        host, bracket, port = text.partition("]")
        host += bracket
    else:
        host, colon, digits = text.partition(":")
        port = colon + digits
    if (_BRACKETED if host.startswith("[") else _HOST_NAME).fullmatch(host) is None:
        raise InvalidTarget("after the @ comes a host's name or address")
    if port and not (port[0] == ":" and re.fullmatch("[0-9]{1,5}", port[1:]) and 0 < int(port[1:]) < 65536):
        raise InvalidTarget("after the host comes :PORT, ;PARAMETER or nothing")
    return host.lower(), port


def _check_parameters(text: str, *, given: bool) -> None:
    for parameter in text.split(";") if given else ():
        if _PARAMETER.fullmatch(parameter) is None:
            raise InvalidTarget("a parameter is ;NAME or ;NAME=VALUE")
        if (name := parameter.partition("=")[0].lower()) in _ELSEWHERE:
            raise InvalidTarget(f"the parameter {name} is not allowed")


def _check_header(text: str) -> None:
    """One: the sign between two is one that dial strings read."""
    found = _HEADER.fullmatch(text)
    if found is None:
        raise InvalidTarget("after the ? comes one header, NAME=VALUE, its value percent-encoded")
    try:
        check_name(found["name"], restrict=True)
    except InvalidHeader as error:
        raise InvalidTarget(str(error)) from None
    if found["name"].lower() in _ROUTING:
        raise InvalidTarget(f"the header {found['name']} is not allowed")


@dataclass(frozen=True, slots=True)
class Pattern:
    """Numbers, or users at hosts, that the operator allows: `+49*` for numbers, `*@sip.example.com` for SIP addresses. `*` stands for any
    characters or none, `?` for one."""

    user: "re.Pattern[str]"
    host: "re.Pattern[str] | None"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises InvalidTarget."""
        user, at, host = text.partition("@")
        if re.fullmatch(r"[A-Za-z0-9_.!~*'+%#?-]+", user) is None or (at and re.fullmatch(r"[A-Za-z0-9.*?:\[\]-]+", host) is None):
            raise InvalidTarget("a pattern is a number such as +49*, or a user and a host such as *@sip.example.com")
        return cls(_glob(user), _glob(host.lower()) if at else None)

    def allows(self, user: str, host: str) -> bool:
        if (self.host is None) is bool(host):
            return False
        return self.user.fullmatch(user) is not None and (self.host is None or self.host.fullmatch(host.lower()) is not None)


def _glob(text: str) -> "re.Pattern[str]":
    return re.compile("".join({"*": ".*", "?": "."}.get(character, re.escape(character)) for character in text))


class AllowedTargets:
    """The operator's patterns together (`outbound.allow`). Without any, nobody may be called."""

    def __init__(self, patterns: Sequence[str]) -> None:
        """Raises InvalidTarget."""
        self._patterns = tuple(Pattern.parse(text) for text in patterns)

    def allows(self, user: str, host: str = "") -> bool:
        """`host`: empty for a number that goes where numbers go: to a carrier that the operator has chosen."""
        return any(pattern.allows(user, host) for pattern in self._patterns)

    def check(self, user: str, host: str = "") -> None:
        """Raises TargetRefused, whose text names the setting."""
        if not self.allows(user, host):
            who = f"{user}@{host}" if host else user
            example = f"*@{host}" if host else f"{user[:3]}*"
            raise TargetRefused(f'{who} may not be called: none of the patterns in outbound.allow fits (such as "{example}")')


class TargetRefused(ValueError):  # noqa: N818  (says what it is)
    """The operator does not allow this one; the text names the setting."""
