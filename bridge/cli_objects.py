"""`roomline import` and `roomline export`: LiveKit's objects from one place to another."""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import typer

from bridge.configuration import ENVIRONMENT_PREFIX, read_configuration
from bridge.dispatch.conflicts import Severity
from bridge.errors import ConfigurationError
from bridge.livekit_objects import read_livekit
from bridge.model.finding import Finding
from bridge.objects import configured_objects, contents_of, open_objects, open_store, problems_together
from bridge.rooms.options import LiveKitAccess
from bridge.settings import LIVEKIT_VARIABLES, SQLITE, Loaded
from bridge.store.exchange import Fate, Plan, from_data, plan, to_text
from bridge.store.port import Edit, Inventory

STORES = (SQLITE, "redis://", "rediss://")
LIVEKIT = ("http://", "https://", "ws://", "wss://")


def import_objects(loaded: Loaded, source: str, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Reads `source` and puts what is in it into the store, once the plan was shown."""
    found, passed_over = asyncio.run(_read(source, loaded))
    planned = asyncio.run(_import(loaded, found, dry_run=True))
    if not as_json:
        for line in planned.lines:
            if line.fate is not Fate.SAME:
                typer.echo(str(line))
        for sentence in passed_over:
            typer.echo(f"{'skipped':8} {sentence}")
        typer.echo(str(planned))
    changes = bool(planned.edit.put)
    if changes and not dry_run and not yes and not as_json and sys.stdin.isatty() and not typer.confirm("Do it?"):
        raise typer.Exit(1)
    done = changes and not dry_run
    if done:
        # Decided anew inside the store's transaction: somebody may have written meanwhile.
        planned = asyncio.run(_import(loaded, found, dry_run=False))
    if as_json:
        report = {"done": done, "objects": [line.to_json() for line in planned.lines], "passed_over": list(passed_over)}
        typer.echo(json.dumps(report, ensure_ascii=False))
    elif done:
        typer.echo(f"done: {planned}")


def export_objects(loaded: Loaded, source: str | None, target: Path | None, *, as_json: bool) -> None:
    """Writes what decides calls, or what another place holds, to standard output or a file of its owner's alone."""
    found, passed_over = asyncio.run(_read(source, loaded) if source else _own(loaded))
    for sentence in passed_over:
        typer.echo(f"skipped {sentence}", err=True)
    text = to_text(found, as_json=as_json)
    if target is None:
        typer.echo(text, nl=False)
        return
    try:
        _write_privately(target, text)
    except OSError as error:
        raise ConfigurationError(f"{target} cannot be written: {error.strerror}") from None


def own_objects(loaded: Loaded) -> Inventory:
    """All that decides calls: the file's and the store's. Raises Unavailable."""
    return asyncio.run(_own(loaded))[0]


def check_objects(loaded: Loaded, inventory: Inventory) -> Sequence[Finding]:
    """What is wrong with all that decides calls, beside what is wrong with the file alone."""
    found = problems_together(loaded.settings, contents_of(loaded), inventory)
    findings = [Finding(False if each.severity is Severity.ERROR else None, f"{each.place} {each.text}") for each in found]
    if not inventory.dispatch_rules:
        findings.append(Finding(None, "there is no dispatch rule: every caller gets 404", "add one to dispatch_rules, or to the store"))
    return findings


async def _own(loaded: Loaded) -> tuple[Inventory, tuple[str, ...]]:
    url = loaded.settings.store
    if url.startswith(SQLITE) and not os.access(url.removeprefix(SQLITE), os.F_OK):
        return contents_of(loaded).inventory, ()  # looking makes no file
    async with open_objects(configured_objects(loaded), loaded.settings.store) as store:
        return await store.read(), ()


async def _import(loaded: Loaded, found: Inventory, *, dry_run: bool) -> Plan:
    configured = configured_objects(loaded)
    made: list[Plan] = []

    def decide(there: Inventory) -> Edit:
        made.append(plan(found, there, configured.contents.places))
        return made[-1].edit

    async with open_objects(configured, loaded.settings.store) as store:
        if not store.writable:
            raise ConfigurationError("store: file: what stands in the file is all there is; name a store to import into")
        if dry_run:
            decide(await store.read())
        else:
            await store.change(decide)
    return made[-1]


async def _read(source: str, loaded: Loaded) -> tuple[Inventory, tuple[str, ...]]:
    """Raises Unavailable, ConfigurationError."""
    if source.startswith(STORES):
        if source.startswith(SQLITE) and not os.access(path := source.removeprefix(SQLITE), os.R_OK):
            raise ConfigurationError(f"{path} is not there, or cannot be read")  # it would be made
        async with open_store(source) as store:
            return await store.read(), ()
    if source.startswith(LIVEKIT):
        return await read_livekit(_access(source, loaded))
    others = {name: value for name, value in os.environ.items() if not name.startswith(ENVIRONMENT_PREFIX)}
    return from_data(read_configuration(Path(source), others).data, source), ()


def _access(url: str, loaded: Loaded) -> LiveKitAccess:
    """The key from the environment, as LiveKit's own tools take it; else that of `rooms`, if it is that server's."""
    key, secret = (os.environ.get(LIVEKIT_VARIABLES[name], "") for name in ("key", "secret"))
    rooms = loaded.settings.rooms
    if not (key and secret) and rooms.kind == "livekit" and rooms.url.partition("://")[2] == url.partition("://")[2]:
        return rooms.access()
    if not (key and secret):
        names = " and ".join(LIVEKIT_VARIABLES[name] for name in ("key", "secret"))
        raise ConfigurationError(f"set {names} in the environment: LiveKit at {url} wants them")
    return LiveKitAccess(url, key, secret)


def _write_privately(target: Path, text: str) -> None:
    """0600 from its first moment on, and whole or not there."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
