"""LiveKit's objects in Redis, in the layout of LiveKit's own server (semantics §8.1): four hashes, binary protobuf. What its server writes
counts here, and the other way round. Phone numbers, which it does not have, lie in a hash of our own.

Known faults of the library (redis-py), all guarded here: a cancelled command of its asyncio client leaves its answer for the next one to
read (its issues 2624, 2665), a cancelled pipeline leaks its connection (4121), and a command that is tried again after a lost connection
may be done twice. So the blocking client runs on a thread of its own, where nothing is cancelled, and never tries again by itself.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit

import structlog
from pydantic import ValidationError
from redis import Redis
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, WatchError
from redis.retry import Retry

from bridge.errors import Unavailable
from bridge.model.phone_number import PhoneNumber
from bridge.store.inventory import BY_MODEL, KINDS, Kind, edited
from bridge.store.port import Edit, Inventory, StoredObject
from bridge.store.protobuf import NotUnderstood, decoded, encoded
from bridge.store.watch import Watch

log = structlog.get_logger(__name__)

LOOK_EVERY = 0.3
"""Seconds between two looks at what others may have changed: one round trip, however much there is."""

PATIENCE = 5.0
"""Seconds for a connection, and for an answer."""

MOST_TRIES = 100
"""Of a change that others' changes keep getting in the way of."""

OWN_PREFIX: Final = "roomline:"

_Result = TypeVar("_Result")
_Stored = dict[bytes, tuple[bytes, StoredObject | None]]
"""A hash by field: the bytes, and what they mean; None for what cannot be understood."""


def key_of(kind: Kind) -> str:
    """The hash of a kind: LiveKit's, or one of our own."""
    return f"{OWN_PREFIX}{kind.name}" if kind.model is PhoneNumber else kind.name


KEYS: Final = tuple(key_of(kind) for kind in KINDS)


class RedisObjects:
    """An ObjectStore. `async with RedisObjects("redis://[[USER]:PASSWORD@]HOST:PORT/DB")`, `rediss://` for TLS: opened and closed once, by
    its owner. An entry that cannot be understood is passed over, said once, and left as it is."""

    writable = True

    def __init__(self, url: str) -> None:
        self._url = url
        self._name = shown(url)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="redis")
        self._watch = Watch(self._name, self.read, LOOK_EVERY)
        # On the worker thread: what was read last, and the transaction that knows whether anything was written since.
        self._client: Redis | None = None
        self._guard: Pipeline | None = None
        self._hashes: dict[str, _Stored] = {}
        self._inventory = Inventory()
        self._said: set[tuple[str, bytes]] = set()

    async def __aenter__(self) -> Self:
        try:
            await self._run(self._read_latest)
        except BaseException:
            self._worker.shutdown(wait=False)
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._worker, self._disconnect))
        finally:
            self._worker.shutdown(wait=False)

    async def read(self) -> Inventory:
        return await self._run(self._read_latest)

    async def change(self, decide: Callable[[Inventory], Edit]) -> Inventory:
        """Once Redis has it: how durable that is, its operator has decided (appendfsync)."""
        inventory = await self._run(lambda: self._change(decide))
        self._watch.look_now()
        return inventory

    def changes(self) -> AsyncIterator[Inventory]:
        return self._watch.changes()

    @property
    def trouble(self) -> str:
        return self._watch.trouble

    async def _run(self, work: Callable[[], _Result]) -> _Result:
        try:
            done = asyncio.get_running_loop().run_in_executor(self._worker, lambda: self._guarded(work))
        except RuntimeError as error:
            raise Unavailable(f"the store {self._name} is closed") from error
        return await done

    # On the worker thread

    def _guarded(self, work: Callable[[], _Result]) -> _Result:
        try:
            return work()
        except (RedisError, OSError) as error:
            # Whatever state a connection is in now, nobody uses it again.
            self._disconnect()
            raise Unavailable(f"the store {self._name} failed: {_words(error, self._url)}") from None

    def _connected(self) -> Redis:
        if self._client is None:
            self._client = Redis.from_url(
                self._url, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE, retry=Retry(NoBackoff(), 0), client_name="roomline"
            )
        return self._client

    def _disconnect(self) -> None:
        client, self._client, self._guard = self._client, None, None
        if client is not None:
            client.close()
            client.connection_pool.disconnect()

    def _read_latest(self) -> Inventory:
        if self._touched():
            self._load()
        return self._inventory

    def _touched(self) -> bool:
        """Whether anybody has written since the last call. A transaction of a watched key fails if it was: so one watches, and the next
        begins to before the last one is asked."""
        guard, fresh = self._guard, self._connected().pipeline()
        _watch(fresh)
        self._guard = fresh
        if guard is None:
            return True
        try:
            guard.multi()
            guard.ping()
            guard.execute()
        except WatchError:
            return True
        finally:
            guard.reset()
        return False

    def _load(self) -> None:
        try:
            self._load_all()
        except BaseException:
            self._guard = None  # what it has told is lost
            raise

    def _load_all(self) -> None:
        pipe = self._connected().pipeline()
        for key in KEYS:
            pipe.hgetall(key)
        found: list[dict[bytes, bytes]] = pipe.execute()
        changed: dict[str, dict[str, Any]] = {}
        hashes: dict[str, _Stored] = {}
        for kind, entries in zip(KINDS, found, strict=True):
            before = self._hashes.get(kind.name, {})
            stored: _Stored = {}
            for name, value in entries.items():
                known = before.get(name)
                stored[name] = known if known is not None and known[0] == value else (value, self._understood(kind, name, value))
            hashes[kind.name] = stored
            if stored != before:
                changed[kind.place] = {name.decode(): meant for name, (_, meant) in stored.items() if meant is not None}
        if changed:
            self._inventory = Inventory(**{kind.place: changed.get(kind.place, kind.of(self._inventory)) for kind in KINDS})
        self._hashes = hashes

    def _understood(self, kind: Kind, name: bytes, value: bytes) -> StoredObject | None:
        try:
            meant = _meaning(kind, value)
            if kind.id_of(meant) != name.decode():
                raise NotUnderstood("its id is another one")
        except (NotUnderstood, UnicodeDecodeError) as error:
            if (kind.name, name) not in self._said:
                self._said.add((kind.name, name))
                why = str(error) if isinstance(error, NotUnderstood) else "its name is no text"
                shown_name = name.decode(errors="backslashreplace")
                log.warning("an entry cannot be understood: passed over, and left as it is", key=key_of(kind), field=shown_name, why=why)
            return None
        return meant

    def _change(self, decide: Callable[[Inventory], Edit]) -> Inventory:
        for _ in range(MOST_TRIES):
            pipe = self._connected().pipeline()
            try:
                _watch(pipe)
                # From here on, whoever writes makes our transaction fail.
                inventory = self._read_latest()
                edit = decide(inventory)
                changed = edited(inventory, edit)
                if changed is inventory:
                    return inventory
                pipe.multi()
                self._queue(pipe, edit)
                pipe.execute()
            except WatchError as error:
                if _is_lost_connection(error):
                    raise RedisConnectionError("the connection was lost in the middle of a change: it is done or not done") from None
                continue
            finally:
                pipe.reset()
            return changed
        raise Unavailable(f"the store {self._name} is written by so many that a change found no gap in {MOST_TRIES} tries")

    def _queue(self, pipe: Pipeline, edit: Edit) -> None:
        for model, object_id in edit.delete:
            pipe.hdel(key_of(BY_MODEL[model]), object_id)
        for found in edit.put:
            kind = BY_MODEL[type(found)]
            object_id = kind.id_of(found)
            known = self._hashes[kind.name].get(object_id.encode())
            if isinstance(found, PhoneNumber):
                value = found.model_dump_json(exclude_defaults=True).encode()
            else:
                value = encoded(found, known[0] if known is not None else None)
            pipe.hset(key_of(kind), object_id, value)


def _watch(pipe: Pipeline) -> None:
    pipe.watch(*KEYS)  # type: ignore[no-untyped-call]  # the library's one method without types


def _is_lost_connection(error: WatchError) -> bool:
    """The library tells a connection lost while it watches by the same error as somebody else's write; what is done twice then was done."""
    return error.__context__ is not None or str(error) != "Watched variable changed."


def _meaning(kind: Kind, value: bytes) -> StoredObject:
    if kind.model is PhoneNumber:
        try:
            return PhoneNumber.model_validate_json(value)
        except ValidationError:
            raise NotUnderstood("it is no phone number") from None
    return decoded(kind.model, value)


def shown(url: str) -> str:
    """A URL without what is secret in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _words(error: Exception, url: str) -> str:
    """An error's text, the password taken out should it be in there."""
    text = str(error) or type(error).__name__
    password = urlsplit(url).password
    return text.replace(password, "***") if password else text
