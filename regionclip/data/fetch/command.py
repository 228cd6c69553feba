"""The command that fetches what is missing, for messages: told by where a public data set's files lie below a root."""

from __future__ import annotations

import shlex
from pathlib import Path

from regionclip.data.fetch.sources import SOURCES


def fetch_command(path: str | Path) -> str | None:
    """Return the command that would put a file or folder of a public data set there; None for any other place."""
    parts = Path(path).parts
    for name, archives in SOURCES.items():
        for given in (Path(place).parts for archive in archives for place in archive.gives):
            if parts[-len(given) :] == given:
                root = Path(*parts[: -len(given)])
                return f"regionclip data fetch {name} --root {shlex.quote(root.as_posix())}"
    return None


def mend_missing(path: str | Path, otherwise: str) -> str:
    """Return how to mend that a file or folder is not there: the command that fetches it, where there is one."""
    command = fetch_command(path)
    return f"run `{command}`, or mend the path" if command else otherwise
