"""FreeSWITCH's XML dialplan, as far as Roomline's files and the tests' operator use it: the scripted FreeSWITCH goes by the very files
that a real one is given.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

Expand = Callable[[str], str]
"""Puts in the values of `${…}`."""

_REFERENCE: Final = re.compile(r"\$([0-9])")


class Dialplan:
    """The contexts of a configuration's `dialplan` section."""

    def __init__(self, configuration: str) -> None:
        """`configuration`: the text of a freeswitch.xml; what it includes is read from where it lies."""
        section = ElementTree.fromstring(configuration).find("section[@name='dialplan']")  # noqa: S314  (our own file)
        if section is None:
            raise ValueError("a configuration without a dialplan")
        self._contexts = {context.get("name", ""): context for context in _contexts(section)}

    def actions(self, context: str, number: str, expand: Expand) -> Sequence[tuple[str, str]]:
        """The applications of the first extension that takes this number, and their data; none when none does."""
        for extension in self._contexts.get(context, ()):
            actions: list[tuple[str, str]] = []
            if extension.tag == "extension" and self._takes(extension, number, expand, actions):
                return actions
        return []

    def _takes(self, extension: ElementTree.Element, number: str, expand: Expand, actions: list[tuple[str, str]]) -> bool:
        for condition in extension:
            if condition.tag != "condition":
                continue
            field = condition.get("field", "")
            value = number if field == "destination_number" else expand(field)
            found = re.search(condition.get("expression", ""), value)
            for action in condition.iter("anti-action" if found is None else "action"):
                actions.append((action.get("application", ""), _filled_in(action.get("data", ""), found)))
            match condition.get("break", "on-false"):
                case "never":
                    pass
                case "on-false":
                    if found is None:
                        return False
                case other:
                    raise ValueError(f"break={other} is not known here")
        return True


def _contexts(section: ElementTree.Element) -> Iterator[ElementTree.Element]:
    for element in section:
        if element.tag == "X-PRE-PROCESS" and element.get("cmd") == "include":
            yield from _contexts(ElementTree.fromstring(Path(element.get("data", "")).read_text()))  # noqa: S314  (the shipped file)
        elif element.tag == "context":
            yield element


def _filled_in(data: str, found: "re.Match[str] | None") -> str:
    return data if found is None else _REFERENCE.sub(lambda reference: found[int(reference[1])], data)
