"""Every case of the conformance vectors (ROOMLINE_VECTORS, default the folder shared/vectors beside the repository)."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from bridge.dispatch.conflicts import Conflict
from bridge.dispatch.rules import NoRule
from bridge.dispatch.trunks import TrunkConflict
from tests.conformance.functions import FUNCTIONS, LEFT_OUT, LEFT_OUT_TYPES, to_message

FOLDER = Path(os.environ.get("ROOMLINE_VECTORS") or Path(__file__).parents[2].parent / "shared" / "vectors")


def _cases() -> Iterator[Any]:
    for file in sorted(FOLDER.glob("*.json")):
        group = json.loads(file.read_text())
        if "cases" not in group:  # an index of the folder, such as counts.json
            continue
        for number, case in enumerate(group["cases"]):
            yield pytest.param(case, id=f"{file.stem}-{number}-{case['id']}")


@pytest.mark.skipif(
    not list(FOLDER.glob("*.json")), reason=f"no conformance vectors in {FOLDER.name}: name their folder in ROOMLINE_VECTORS"
)
@pytest.mark.parametrize("case", list(_cases()))
def test_given_a_vector_when_it_is_run_then_it_gives_what_livekit_gives(case: dict[str, Any]) -> None:
    function, given, expected = case["function"], case["input"], case["expect"]
    reason = LEFT_OUT.get(function) or (LEFT_OUT_TYPES.get(given.get("type", "")) if function == "validate" else None)
    if reason:
        pytest.skip(f"left out: {reason}")
    assert function in FUNCTIONS, f"the vectors know a function that this runner does not: {function}"
    try:
        found = FUNCTIONS[function]({**given, "case_id": case["id"]})
    except (ValueError, Conflict, TrunkConflict, NoRule, PermissionError) as error:
        if not expected.get("error"):
            pytest.fail(f"refused with {error!r}, expected {expected}")
        _check_error(error, expected)
        return
    assert not expected.get("error"), f"gave {found!r}, expected an error"
    _check_value(found, expected)


def _check_error(error: Exception, expected: dict[str, Any]) -> None:
    kinds: dict[str, type[Exception] | tuple[type[Exception], ...]] = {
        "conflict:failed_precondition": TrunkConflict,
        "conflict:invalid_argument": Conflict,
        "no_match:failed_precondition": NoRule,
        "invalid": (ValueError, PermissionError, Conflict),
    }
    kind = expected.get("error_kind")
    if kind is not None:
        assert isinstance(error, kinds[kind]), f"{error!r} is no {kind}"
    if "error_message" in expected:
        assert str(error) == expected["error_message"]
    if "error_contains" in expected:
        assert expected["error_contains"] in str(error)


def _check_value(found: Any, expected: dict[str, Any]) -> None:
    if isinstance(found, BaseModel):
        found = to_message(found)
    if "value" in expected:
        # Go's nil list is an empty one.
        assert found == expected["value"] or (expected["value"] is None and found == [])
    for key in ("match_id", "ids"):
        if key in expected:
            assert found[key] == expected[key]
    if "ids_any_order" in expected:
        assert sorted(found["ids"]) == sorted(expected["ids_any_order"])
    for path, wanted in expected.get("fields", {}).items():
        _check_field(found, path, wanted)


def _check_field(found: Any, path: str, wanted: Any) -> None:
    value = found[path] if path in found else _at(found, path)
    match wanted:
        case {"$regex": pattern}:
            assert re.search(pattern, value or ""), f"{path} is {value!r}"
        case {"$nonempty": nonempty}:
            assert bool(value) is nonempty, f"{path} is {value!r}"
        case {"$set": is_set}:
            assert (value is not None) is is_set, f"{path} is {value!r}"
        case _ if value is None:
            # A path that is missing in a message means its default.
            assert wanted in (None, "", 0, False, [], {}, "SIP_MEDIA_ENCRYPT_DISABLE", "SIP_NO_HEADERS"), (
                f"{path} is missing, not {wanted!r}"
            )
        case _:
            assert value == wanted, f"{path} is {value!r}"


def _at(found: Any, path: str) -> Any:
    """Attribute names hold dots themselves, so the longest name that is there counts."""
    if not path:
        return found
    if not isinstance(found, dict):
        return None
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if name in found:
            return _at(found[name], ".".join(parts[length:]))
    return None
