"""What the documentation says of the configuration is what the settings are."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from bridge.model.phone_number import PhoneNumber
from bridge.model.rule import CalleeRule, DirectRule, DispatchRule, IndividualRule, Rule
from bridge.model.trunk import InboundTrunk
from bridge.settings import Settings

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "configuration.md").read_text()
EXAMPLE = ROOT / "docs" / "roomline.example.yaml"
ENVIRONMENT = {
    "ROOMLINE_AMI_SECRET": "x",
    "ROOMLINE_ARI_SECRET": "y",
    "LOBBY_PIN": "80428617",
    "ROOMLINE_DIRECTORY_SECRET": "z" * 16,
    "ROOMLINE_ESL_SECRET": "w",
}


def test_given_the_page_then_its_tables_are_what_the_settings_say() -> None:
    tool = ROOT / "tools" / "make_configuration_docs.py"
    done = subprocess.run([sys.executable, tool, "--check"], check=False, cwd=ROOT)
    assert done.returncode == 0, f"docs/configuration.md is old: run {tool.relative_to(ROOT)}"


@pytest.mark.parametrize("model", [InboundTrunk, DispatchRule, Rule, DirectRule, IndividualRule, CalleeRule, PhoneNumber])
def test_given_livekits_objects_then_the_page_names_every_field(model: type[BaseModel]) -> None:
    for name in model.model_fields:
        assert f"`{name}`" in PAGE or f"`rule.{name}`" in PAGE or name == "rule", name


def test_given_the_example_then_it_is_sound_and_warns_of_nothing() -> None:
    loaded = Settings.load(EXAMPLE, ENVIRONMENT).sound()
    assert loaded.warnings == []
    assert loaded.file.literal_secrets == ()


def test_given_the_example_then_it_has_every_key_with_its_default(tmp_path: Path) -> None:
    smallest = tmp_path / "roomline.yaml"
    smallest.write_text("pbx:\n  - {name: hq, ami: {secret: x}}\n")
    default, example = Settings.load(smallest, {}).settings, Settings.load(EXAMPLE, ENVIRONMENT).settings
    for section in ("media", "store", "http", "outbound", "calls", "pin", "log", "unknown_trunks"):
        assert getattr(example, section) == getattr(default, section), section
    data = yaml.safe_load(EXAMPLE.read_text())
    assert set(keys(data)) >= set(fields(Settings))


def fields(model: type[BaseModel], path: str = "") -> Iterator[str]:
    """Every key of ours, without LiveKit's objects."""
    for name, field in model.model_fields.items():
        inner = list(sections(field.annotation))
        if not inner:
            yield path + name
        for section in inner:
            yield from fields(section, f"{path}{name}.")


def sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """The section that a key holds, alone or in a list, of whichever kinds."""
    if is_section(annotation):
        yield annotation
    else:
        for each in get_args(annotation):
            yield from sections(each)


def is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel) and kind.__module__ == Settings.__module__


def keys(data: Any, path: str = "") -> Iterator[str]:
    if isinstance(data, dict):
        for name, value in data.items():
            yield path + name
            yield from keys(value, f"{path}{name}.")
    elif isinstance(data, list):
        for value in data:
            yield from keys(value, path)
