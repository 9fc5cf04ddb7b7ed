"""Writes the tables of docs/configuration.md from the settings themselves, so that no key is told wrongly or forgotten.

    ./run shell python tools/make_configuration_docs.py          writes it
    ./run shell python tools/make_configuration_docs.py --check  exit status 1 when it is not up to date

Only the tables between the two marks: the rest, and what LiveKit's objects mean, is prose (tests/test_configuration_docs.py).
"""

import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from bridge.configuration import ENVIRONMENT_PREFIX
from bridge.pbx_kinds import PBX_SECTIONS
from bridge.settings import Settings

PAGE = Path(__file__).parent.parent / "docs" / "configuration.md"
Key = tuple[str, FieldInfo, Any]
"""Its path, what is known of it, and its default."""

OBJECTS = ("trunks", "dispatch_rules", "phone_numbers")

BEGIN, END = "<!-- keys: written by tools/make_configuration_docs.py -->\n", "<!-- end of keys -->\n"


def written(text: str) -> str:
    """The page with the tables between its marks made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + "".join(_sections()) + "\n" + END + after


def _sections() -> Iterator[str]:
    plain = [(name, field, _default_of(field)) for name, field in Settings.model_fields.items() if _model(field.annotation) is None]
    yield "\n## At the top\n" + _table("", plain)
    for name, field in Settings.model_fields.items():
        model = _model(field.annotation)
        if model is None or name in OBJECTS:
            continue
        path = f"{name}[]" if _is_list(field.annotation) else name
        if name == "pbx":
            yield f"\n## {name}\n{_sentence(field)}\n"
            for kind, one in PBX_SECTIONS.items():
                yield f"\n### {(one.__doc__ or '').strip('.')} (`kind: {kind}`)\n" + _table(path, list(_keys(one, None)))
            continue
        yield f"\n## {name}\n{_sentence(field)}\n" + _table(path, list(_keys(model, _default_of(field))))


def _keys(model: type[BaseModel], default: Any, path: str = "") -> Iterator[Key]:
    """The keys of a section with those of the sections in it, by their path."""
    for name, field in model.model_fields.items():
        inner = _model(field.annotation)
        own = getattr(default, name) if isinstance(default, BaseModel) else _default_of(field)
        if inner is None:
            yield path + name, field, own
        elif _is_list(field.annotation):
            yield from _keys(inner, None, f"{path}{name}[].")
        else:
            yield from _keys(inner, own, f"{path}{name}.")


def _default_of(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True)


def _table(path: str, keys: list[Key]) -> str:
    rows = ["\n| key | meaning | default | environment |\n|---|---|---|---|\n"]
    for name, field, default in keys:
        whole = f"{path}.{name}" if path else name
        variable = ENVIRONMENT_PREFIX + whole.replace("[]", "__0").replace(".", "__").upper()
        rows.append(f"| `{whole}` | {_meaning(field)} | {_shown(default)} | `{variable}` |\n")
    return "".join(rows)


def _meaning(field: FieldInfo) -> str:
    values = _values(field.annotation)
    told = f" One of {', '.join(f'`{value}`' for value in values)}." if len(values) > 1 else ""
    return f"{_sentence(field)}{told}".replace("|", "\\|")


def _sentence(field: FieldInfo) -> str:
    text = field.description or ""
    return text[:1].upper() + text[1:] + "."


def _shown(value: Any) -> str:
    if value is PydanticUndefined or isinstance(value, SecretStr):
        return "must be given"
    if value is None or value in ((), {}, ""):
        return "none"
    if isinstance(value, tuple):
        host, *port = value
        return f"`{host}:{port[0]}`" if port and isinstance(port[0], int) else f"`{list(value)}`".replace("'", '"')
    return f"`{value.value if isinstance(value, Enum) else str(value).lower() if isinstance(value, bool) else value}`"


def _values(annotation: Any) -> tuple[Any, ...]:
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return tuple(member.value for member in annotation)
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _is_list(annotation: Any) -> bool:
    return get_origin(annotation) is tuple


def _model(annotation: Any) -> type[BaseModel] | None:
    """The section that a key holds, alone or in a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for each in get_args(annotation) if (found := _model(each)) is not None), None)


def main(arguments: list[str]) -> int:
    text = PAGE.read_text(encoding="utf-8")
    if arguments == ["--check"]:
        return 0 if text == written(text) else 1
    PAGE.write_text(written(text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
