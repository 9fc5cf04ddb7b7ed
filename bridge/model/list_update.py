"""ListUpdate: changing a list of texts (livekit-sip-semantics.md §1.7)."""

from collections.abc import Sequence

from bridge.model.base import LiveKitModel


class InvalidUpdate(ValueError):  # noqa: N818  (says what it is)
    """An update that says nothing, or two things at once."""


class ListUpdate(LiveKitModel):
    """`set` replaces, `clear` empties, `remove` and `add` change."""

    set: tuple[str, ...] = ()
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    clear: bool = False

    def check(self) -> None:
        """Raises InvalidUpdate."""
        if not (self.set or self.add or self.remove or self.clear):
            raise InvalidUpdate("a list update sets, adds, removes or clears something")
        if self.clear and (self.set or self.add or self.remove):
            raise InvalidUpdate("a list update that clears does nothing else")
        if self.set and (self.add or self.remove):
            raise InvalidUpdate("a list update that sets neither adds nor removes")
        if "" in (*self.set, *self.add, *self.remove):
            raise InvalidUpdate("a list update holds no empty text")

    def apply(self, current: Sequence[str]) -> tuple[str, ...]:
        """The new list: order and duplicates of `set` are kept, `remove` takes the first of each, `add` what is not there yet.
        Raises InvalidUpdate."""
        self.check()
        if self.clear:
            return ()
        if self.set:
            return self.set
        changed = list(current)
        for value in self.remove:
            if value in changed:
                changed.remove(value)
        for value in self.add:
            if value not in changed:
                changed.append(value)
        return tuple(changed)
