"""The table of public data sets: whole, sound, and where the profiles look for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from regionclip.data.sources import SOURCES, Archive
from regionclip.workspace.profiles import compose_profile
from tests.conftest import PAPER_PROFILES

ARCHIVES = {archive.name: archive for group in SOURCES.values() for archive in group}


@pytest.mark.parametrize("archive", ARCHIVES.values(), ids=lambda archive: archive.name)
def test_each_archive_has_an_address_or_says_where_to_ask(archive: Archive) -> None:
    assert (archive.url is None) == (archive.ask_at is not None)
    assert archive.url is None or archive.url.endswith(f"/{archive.name}")
    assert all(path.startswith(f"{archive.into}/") and count >= 1 for path, count in archive.gives.items())


@pytest.mark.parametrize("archive", ARCHIVES.values(), ids=lambda archive: archive.name)
def test_a_checksum_is_well_formed_and_says_whose_it_is(archive: Archive) -> None:
    assert "not published" in archive.checksum_by
    assert archive.checksum is None or re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", archive.checksum)
    assert (archive.checksum is None) == (archive.size is None)


def _paths(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _paths(inner)
    elif isinstance(value, str) and value.startswith("datasets/"):
        yield value.removeprefix("datasets/")


def test_what_is_fetched_to_datasets_lies_where_the_profiles_read_it() -> None:
    """CC3M is no download: its pictures are collected from two million addresses by img2dataset. Suites are others'."""
    names = [name for name in PAPER_PROFILES if not name.startswith(("odinw", "cityscapes"))]
    read = {path for name in names for path in _paths(compose_profile(name)["data"])} - {"cc3m"}
    given = {path for archive in ARCHIVES.values() for path in archive.gives}
    assert len(read) >= 8
    assert read <= given | {archive.into for archive in ARCHIVES.values()}
