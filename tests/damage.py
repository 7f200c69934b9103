"""Damage to files, as hypothesis draws it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from bench.errors import UserError

Damage = Callable[[Path], None]


def fuzz(quick: int, thorough: int = 400) -> settings:
    """Return settings for some cases, always the same; or for many, new ones each time.

    Many are asked for by the environment variable ``HYPOTHESIS_PROFILE=thorough``.
    """
    many = settings.get_current_profile_name() == "thorough"
    return settings(
        max_examples=thorough if many else quick,
        derandomize=not many,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def refusal(load: Callable[[], object]) -> str | None:
    """Return the one line by which something is refused, None if it is not.

    Whatever else it raises is raised.
    """
    try:
        load()
    except UserError as error:
        message = str(error)
    else:
        return None
    assert len(message.splitlines()) == 1, message
    return message


def _flip(place: float, bit: int) -> Damage:
    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(place * len(content))] ^= 1 << bit
        path.write_bytes(content)

    return damage


def _cut(place: float) -> Damage:
    return lambda path: _write(path, path.read_bytes()[: int(place * path.stat().st_size)])


def _swap(place: float, other: float, length: int) -> Damage:
    """Return what copies a piece of a file over another place of it."""

    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        source, target = int(place * len(content)), int(other * len(content))
        piece = content[source : source + length]
        content[target : target + len(piece)] = piece
        path.write_bytes(content)

    return damage


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _foreign(content: bytes) -> Damage:
    return lambda path: _write(path, content)


def _remove(path: Path) -> None:
    path.unlink()


def _directory(path: Path) -> None:
    path.unlink()
    (path / "inside").mkdir(parents=True)


def _other_file(path: Path) -> None:
    """Replace a file by another one of its directory."""
    others = [one for one in sorted(path.parent.iterdir()) if one != path and one.is_file()]
    shutil.copyfile(others[0] if others else Path(__file__), path)


PLACES = st.floats(0, 1, exclude_max=True)
FLIPS = st.builds(_flip, PLACES, st.integers(0, 7))
DAMAGE = st.one_of(
    FLIPS,
    st.builds(_cut, PLACES),
    st.builds(_swap, PLACES, PLACES, st.integers(1, 64)),
    st.builds(_foreign, st.binary(max_size=64)),
    st.sampled_from([_remove, _directory, _other_file]),
)
