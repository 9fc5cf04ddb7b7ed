"""A YAML file that knows where everything stands: its data, and the line of every key, for errors that name the place.

What the keys mean is `settings.py`'s.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bridge.errors import ConfigurationError

Key = str | int
Place = tuple[Key, ...]

ENVIRONMENT_PREFIX = "ROOMLINE_"
"""`ROOMLINE_MEDIA__LISTEN` is `media.listen`, `ROOMLINE_PBX__0__AMI__PORT` the first PBX's `ami.port`."""


@dataclass(frozen=True, slots=True)
class ConfigurationFile:
    """The file's data with the environment laid over it, and where each key came from (`file:line`, or the variable's name)."""

    path: Path
    data: dict[str, Any]
    places: Mapping[Place, str]

    def where(self, place: Place) -> str:
        """The line of a key, or of the nearest one around it."""
        while place and place not in self.places:
            place = place[:-1]
        return self.places.get(place, f"{self.path}")


def read_configuration(path: Path, environment: Mapping[str, str] | None = None) -> ConfigurationFile:
    """Raises ConfigurationError with file and line for what is no YAML, no mapping, or says one key twice."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: is not UTF-8 (byte {error.start})") from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigurationError(f"{path}:{line}: {error.problem or 'this is no YAML'}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigurationError(f"{path}: this is no YAML ({type(error).__name__})") from None
    places: dict[Place, str] = {(): f"{path}:1"}
    data = _build(root, (), path, places) if root is not None else {}
    if not isinstance(data, dict):
        raise ConfigurationError(f"{path}:1: the file must be a mapping (key: value), not {type(data).__name__}")
    _lay_over(data, places, os.environ if environment is None else environment)
    return ConfigurationFile(path, data, places)


def _build(node: yaml.Node, place: Place, path: Path, places: dict[Place, str]) -> Any:
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = yaml.SafeLoader("").construct_object(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                key = str(key)
            if key in found:
                raise ConfigurationError(f"{path}:{line}: {dotted((*place, key))} stands here twice")
            places[(*place, key)] = f"{path}:{line}"
            found[key] = _build(value_node, (*place, key), path, places)
        return found
    if isinstance(node, yaml.SequenceNode):
        items = []
        for index, item in enumerate(node.value):
            places[(*place, index)] = f"{path}:{item.start_mark.line + 1}"
            items.append(_build(item, (*place, index), path, places))
        return items
    return yaml.SafeLoader("").construct_object(node)


def _lay_over(data: dict[str, Any], places: dict[Place, str], environment: Mapping[str, str]) -> None:
    for name, value in sorted(environment.items()):
        if not name.startswith(ENVIRONMENT_PREFIX) or name in NOT_KEYS:
            continue
        *parents, last = (_key(part) for part in name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__"))
        try:
            holder: Any = data
            for parent in parents:
                holder = _child(holder, parent)
            _put(holder, last, yaml.safe_load(value) if value else "")
        except (TypeError, IndexError, yaml.YAMLError):
            raise ConfigurationError(f"{name}: there is no such key in the configuration") from None
        places[(*parents, last)] = name


NOT_KEYS = frozenset({"ROOMLINE_CONFIG", "ROOMLINE_VECTORS"})
"""Variables of ours that are not keys of the file."""


def _key(part: str) -> Key:
    return int(part) if part.isdigit() else part


def _child(holder: Any, key: Key) -> Any:
    if isinstance(holder, dict):
        return holder.setdefault(str(key), {})
    return holder[key]


def _put(holder: Any, key: Key, value: Any) -> None:
    if isinstance(holder, dict):
        holder[str(key)] = value
    else:
        holder[key] = value


def dotted(place: Place) -> str:
    """`pbx[0].ami.port`."""
    text = ""
    for key in place:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else str(key)
    return text


def undotted(text: str) -> Place:
    """The place of `dotted`."""
    parts: list[Key] = []
    for name in text.split("."):
        key, *indexes = name.replace("]", "").split("[")
        parts.append(key)
        parts.extend(int(index) for index in indexes)
    return tuple(parts)


def literal_secrets(data: Any, place: Place = ()) -> Iterator[Place]:
    """Where a secret stands in the file itself."""
    if isinstance(data, dict):
        for key, value in data.items():
            if key in ("secret", "auth_password", "pin") and isinstance(value, (str, int)) and value != "":
                yield (*place, key)
            else:
                yield from literal_secrets(value, (*place, key))
    elif isinstance(data, list):
        for index, item in enumerate(data):
            yield from literal_secrets(item, (*place, index))


def is_readable_by_others(path: Path) -> bool:
    return bool(path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))
