"""A YAML file that knows where everything stands: its data, and the line of every key, for errors that name the place.

What the keys mean is `settings.py`'s.
"""

import contextlib
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bridge.errors import ConfigurationError

Key = str | int
Place = tuple[Key, ...]

ENVIRONMENT_PREFIX = "ROOMLINE_"
"""`ROOMLINE_MEDIA__LISTEN` is `media.listen`, `ROOMLINE_PBX__0__AMI__PORT` the first PBX's `ami.port`."""


NOT_KEYS = frozenset({"ROOMLINE_CONFIG", "ROOMLINE_VECTORS"})
"""Variables of ours that are not keys of the file."""

SECRETS = frozenset({"secret", "auth_password", "pin", "store"})
"""Keys whose value is a secret: a text, `{env: NAME}` or `{file: PATH}`. A store's URL is one if it has a password in it."""

API_KEYS: Place = ("api", "keys")
"""All of whose values are secrets."""

_PLAIN_TAGS = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp"))

_MOST_REPEATED = 20
"""How many times over, on average, aliases may repeat a file: more is an attack, or a slip of the same effect."""


@dataclass(frozen=True, slots=True)
class ConfigurationFile:
    """The file's data with the environment laid over it and its secrets fetched, and where each key came from (`file:line`, or the
    variable's name). `literal_secrets` are the places of secrets that stand in the file itself."""

    path: Path
    data: dict[str, Any]
    places: Mapping[Place, str]
    literal_secrets: tuple[Place, ...] = ()
    warnings: tuple[str, ...] = ()

    def where(self, place: Place) -> str:
        """The line of a key, or of the nearest one around it."""
        while place and place not in self.places:
            place = place[:-1]
        return self.places.get(place, f"{self.path}")


def read_configuration(path: Path, environment: Mapping[str, str] | None = None, sections: Collection[str] = ()) -> ConfigurationFile:
    """Raises ConfigurationError with file and line for what is no YAML, no mapping, or says one key twice, and for a secret that is not
    there. `sections` are the names at the top: a variable that begins with none of them is somebody else's, and left alone with a
    warning (Kubernetes, for one, sets ROOMLINE_PORT for a service of that name)."""
    environment = os.environ if environment is None else environment
    places: dict[Place, str] = {(): f"{path}:1"}
    try:
        root = _parse(path)
        data = _build(root, (), path, places, [0, _MOST_REPEATED * path.stat().st_size + 1000]) if root is not None else None
    except RecursionError:
        raise ConfigurationError(f"{path}: is nested too deeply, or holds an alias of itself") from None
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigurationError(f"{path}:1: the file must be a mapping (key: value), not {type(data).__name__}")
    warnings = _lay_over(data, places, environment, sections)
    file = ConfigurationFile(path, data, places, tuple(_literal_secrets(data)), warnings)
    _fetch_secrets(file, data, environment)
    return file


def _parse(path: Path) -> yaml.Node | None:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: is not UTF-8 (byte {error.start})") from None
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigurationError(f"{path}:{line}: {error.problem or 'this is no YAML'}") from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: this is no YAML ({type(error).__name__})") from None
    return node


def _build(node: yaml.Node, place: Place, path: Path, places: dict[Place, str], built: list[int]) -> Any:
    """`built` counts the nodes, and holds how many there may be."""
    built[0] += 1
    if built[0] > built[1]:
        raise ConfigurationError(f"{path}: its aliases (*name) repeat it too many times over")
    if not node.tag.startswith(_PLAIN_TAGS):
        raise ConfigurationError(f"{path}:{node.start_mark.line + 1}: {node.tag} is a tag, which has no meaning here; put it in quotes")
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "?"
            if key in found:
                raise ConfigurationError(f"{path}:{line}: {dotted((*place, key))} stands here twice")
            places[(*place, key)] = f"{path}:{line}"
            found[key] = _build(value_node, (*place, key), path, places, built)
        return found
    if isinstance(node, yaml.SequenceNode):
        items = []
        for index, item in enumerate(node.value):
            places[(*place, index)] = f"{path}:{item.start_mark.line + 1}"
            items.append(_build(item, (*place, index), path, places, built))
        return items
    try:
        return yaml.SafeLoader("").construct_object(node)
    except (yaml.YAMLError, ValueError):
        raise ConfigurationError(f"{path}:{node.start_mark.line + 1}: {dotted(place)}: is no value of YAML's; put it in quotes") from None


def _lay_over(data: dict[str, Any], places: dict[Place, str], environment: Mapping[str, str], sections: Collection[str]) -> tuple[str, ...]:
    """Put the environment's values over the file's. Returns what was left alone."""
    for_secrets, warnings = {*_named_variables(data), *_named_in(environment)}, []
    for name, value in sorted(environment.items()):
        if not name.startswith(ENVIRONMENT_PREFIX) or name in NOT_KEYS or name in for_secrets:
            continue
        *parents, last = (_key(part) for part in name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__"))
        if sections and (*parents, last)[0] not in sections:
            warnings.append(f"{name} is no key of the configuration, and left alone")
            continue
        try:
            holder: Any = data
            for parent in parents:
                holder = _child(holder, parent)
            # A secret is taken as it is: YAML would read 0123 as a number.
            _put(holder, last, yaml.safe_load(value) if value and last not in SECRETS else value)
        except (TypeError, IndexError, yaml.YAMLError):
            raise ConfigurationError(f"{name}: there is no such key in the configuration") from None
        places[(*parents, last)] = name
    return tuple(warnings)


def _named_variables(data: Any) -> Iterator[str]:
    """The variables that secrets are fetched from."""
    for _, holder, key in _secrets(data):
        if isinstance(holder[key], dict) and isinstance(name := holder[key].get("env"), str):
            yield name


def _named_in(environment: Mapping[str, str]) -> Iterator[str]:
    """The same, where a whole section comes from the environment (`ROOMLINE_PBX='[{…}]'`)."""
    for name, value in environment.items():
        if name.startswith(ENVIRONMENT_PREFIX) and "env" in value:
            with contextlib.suppress(yaml.YAMLError):
                *parents, last = name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
                section: Any = yaml.safe_load(value)
                for key in (last, *reversed(parents)):
                    section = {key: section}
                yield from _named_variables(section)


def _fetch_secrets(file: ConfigurationFile, data: dict[str, Any], environment: Mapping[str, str]) -> None:
    for place, holder, key in list(_secrets(data)):
        if isinstance(holder[key], dict):
            try:
                holder[key] = _fetch(holder[key], environment)
            except ValueError as error:
                raise ConfigurationError(f"{file.where(place)}: {dotted(place)}: {error}") from None


def _fetch(source: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    match source:
        case {"env": str() as name, **rest} if not rest:
            if not environment.get(name):
                raise ValueError(f"the environment variable {name} is not set")
            return environment[name]
        case {"file": str() as name, **rest} if not rest:
            try:
                secret = Path(name).read_text(encoding="utf-8").strip()
            except OSError as error:
                raise ValueError(f"the file {name} cannot be read: {error.strerror}") from None
            except ValueError:
                raise ValueError(f"the file {name} is no text") from None
            if not secret:
                raise ValueError(f"the file {name} is empty")
            return secret
    raise ValueError("a secret is a text, {env: NAME} or {file: PATH}")


def _secrets(data: Any, place: Place = ()) -> Iterator[tuple[Place, dict[str, Any], str]]:
    """Every key whose value is a secret: its place, what holds it, and its name."""
    if isinstance(data, dict):
        for key, value in data.items():
            # At the top `pin` is a section, and only there `store` is a URL.
            if place == API_KEYS or (key in SECRETS and key != ("pin" if place == () else "store")):
                yield (*place, key), data, key
            else:
                yield from _secrets(value, (*place, key))
    elif isinstance(data, list):
        for index, item in enumerate(data):
            yield from _secrets(item, (*place, index))


def _literal_secrets(data: Any) -> Iterator[Place]:
    for place, holder, key in _secrets(data):
        if isinstance(holder[key], str | int) and holder[key] != "" and (key != "store" or "@" in str(holder[key])):
            yield place


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


def is_readable_by_others(path: Path) -> bool:
    return bool(path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))
