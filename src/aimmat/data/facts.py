"""What a sample is made of: sources and data sets tell it while they make one, and nobody need listen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_told: ContextVar[dict[str, object] | None] = ContextVar("told", default=None)


def tell(**facts: object) -> None:
    """Say what the sample in the making is made of.

    Args:
        facts: files as foreground, alpha, background or picture; a crop as `window`; what else names itself. A fact
            that is told again takes the place of the first, None says that there is none.
    """
    told = _told.get()
    if told is not None:
        told.update(facts)


@contextmanager
def listening() -> Iterator[dict[str, object]]:
    """Collect what is told inside the block.

    >>> with listening() as told:
    ...     tell(background="sea.png", alpha=None)
    >>> told
    {'background': 'sea.png', 'alpha': None}
    """
    told: dict[str, object] = {}
    token = _told.set(told)
    try:
        yield told
    finally:
        _told.reset(token)


def window(part: tuple[slice, slice]) -> tuple[int, int, int, int]:
    """A crop as (top, left, height, width), for `tell`.

    >>> window((slice(2, 5), slice(0, 4)))
    (2, 0, 3, 4)
    """
    rows, columns = part
    return int(rows.start), int(columns.start), int(rows.stop - rows.start), int(columns.stop - columns.start)
