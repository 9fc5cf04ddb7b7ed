"""Who is loaded by whom: what import-linter cannot say, as the modules of an adapter are loaded where one is configured."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

LOADED = """
import sys
from pathlib import Path
from bridge import app, cli, node_app
from bridge.pbx_kinds import connect_pbx
from bridge.settings import Settings

async def connect():
    for pbx in Settings.load(Path(sys.argv[1]), {}).sound().settings.pbx:
        connect_pbx(pbx, serves_directory=False)

import asyncio
asyncio.run(connect())
print([name for name in ("gevent", "greenswitch", "bridge.pbx.freeswitch.pbx", "redis") if name in sys.modules])
"""


@pytest.mark.parametrize(
    ("pbx", "loaded"),
    [
        ("{name: hq, ami: {secret: x}}", "[]"),
        ("{kind: freeswitch, name: hq, esl: {secret: x}}", "['gevent', 'greenswitch', 'bridge.pbx.freeswitch.pbx']"),
    ],
)
def test_given_a_server_then_what_talks_to_a_freeswitch_or_a_redis_is_loaded_only_where_one_is_configured(
    tmp_path: Path, pbx: str, loaded: str
) -> None:
    path = tmp_path / "roomline.yaml"
    path.write_text(f"pbx: [{pbx}]\n")
    said = subprocess.run([sys.executable, "-c", LOADED, path], cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == loaded


@pytest.mark.parametrize(
    ("modules", "not_loaded"),
    [
        ("bridge.cli", ["aiohttp", "numpy", "google", "livekit", "prometheus_client", "sqlite3"]),
        ("bridge.cli, bridge.node_app", ["aiohttp", "google", "livekit", "sqlite3"]),
    ],
    ids=["command line", "node"],
)
def test_given_a_start_then_what_it_has_no_use_for_is_not_loaded(modules: str, not_loaded: list[str]) -> None:
    """Phones ring meanwhile, for five seconds at the most."""
    code = f"import sys, {modules}\nprint([name for name in {not_loaded} if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_given_a_new_module_then_the_rule_on_who_knows_of_freeswitch_holds_for_it_too() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (rule,) = (contract for contract in contracts if contract["name"].startswith("nothing knows of FreeSWITCH"))
    modules = {f"bridge.{path.stem}" for path in (ROOT / "bridge").glob("*.py") if path.stem != "__init__"}
    packages = {f"bridge.{path.parent.name}" for path in (ROOT / "bridge").glob("*/__init__.py")}
    of_pbx = {
        f"bridge.pbx.{path.stem}" for path in (ROOT / "bridge" / "pbx").iterdir() if path.suffix in (".py", "") and "__" not in path.name
    }
    assert set(rule["source_modules"]) == (modules | packages | of_pbx) - {"bridge.pbx", "bridge.pbx.freeswitch"}
