"""The objects that the operator configured, opened: those in roomline.yaml, and those in the store that its key `store` names.

For the server and the command line alike; what becomes of calls is `routes.py`'s.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from bridge.dispatch.conflicts import Problem, problems
from bridge.settings import FILE_STORE, SQLITE, Loaded, Settings, trusted_for_nothing
from bridge.store.combined import CombinedStore
from bridge.store.file import FileContents, FileStore
from bridge.store.inventory import KINDS, directory_of, inbound_trunks
from bridge.store.port import Inventory, WatchedStore
from bridge.store.sqlite_objects import SqliteObjects


def contents_of(loaded: Loaded) -> FileContents:
    """What the file says of calls."""
    settings = loaded.settings
    inventory = Inventory(
        inbound_trunks={trunk.sip_trunk_id: trunk for trunk in settings.trunks},
        dispatch_rules={rule.sip_dispatch_rule_id: rule for rule in settings.dispatch_rules},
        phone_numbers={number.id: number for number in settings.phone_numbers},
    )
    places = {
        (kind.name, object_id): loaded.file.where((kind.section, index))
        for kind in KINDS
        for index, object_id in enumerate(kind.of(inventory))
    }
    return FileContents(inventory, settings.unknown_trunks, places)


def problems_together(settings: Settings, contents: FileContents, inventory: Inventory) -> tuple[Problem, ...]:
    """What is wrong with all the objects there are, the file's and the store's, beside what is wrong with the file's alone: that its reader
    has said (`Loaded`). A second's work where there are 100,000."""
    if settings.store == FILE_STORE:
        return ()

    def found(those: Inventory, *, complete: bool) -> tuple[Problem, ...]:
        directory = directory_of(those, contents.unknown_trunks)
        ids = {
            "trunks": [("sip_inbound_trunk", trunk.sip_trunk_id) for trunk in directory.trunks],
            "dispatch_rules": [("sip_dispatch_rule", rule.sip_dispatch_rule_id) for rule in directory.rules],
            "phone_numbers": [("phone_number", number.id) for number in directory.phone_numbers],
        }

        def name(section: str, position: int) -> str:
            kind, object_id = ids[section][position]
            where = contents.places.get((kind, object_id))
            return f"{object_id} ({where})" if where else object_id

        return problems(directory, name, complete=complete)

    of_file = set(found(contents.inventory, complete=False))
    together = [problem for problem in found(inventory, complete=True) if problem not in of_file]
    return (*together, *trusted_for_nothing(settings, inbound_trunks(inventory)))


def configured_objects(loaded: Loaded) -> FileStore:
    """Those in roomline.yaml, read anew when it changes."""
    path = loaded.file.path
    return FileStore(path, contents_of(loaded), lambda: contents_of(Settings.load(path).sound()))


def open_store(url: str) -> AbstractAsyncContextManager[WatchedStore]:
    """The store that a URL names. Raises Unavailable when it is entered and cannot be had."""
    if url.startswith(SQLITE):
        return SqliteObjects(Path(url.removeprefix(SQLITE)))
    # Loaded where it is used: its client costs a server a fifth of its start, in which callers wait for a new one.
    from bridge.store.redis import RedisObjects  # noqa: PLC0415

    return RedisObjects(url)


@asynccontextmanager
async def open_objects(configured: FileStore, url: str) -> AsyncIterator[WatchedStore]:
    """The file's and the store's as one. Raises Unavailable."""
    if url == FILE_STORE:
        yield configured
        return
    async with open_store(url) as store:
        yield CombinedStore(configured, store)
