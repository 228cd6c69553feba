"""Errors that name the file, the record, the key and the mend, their exit codes, and text made fit to be shown."""

from __future__ import annotations

import logging
import re
from pathlib import Path

# User and password of an address, up to the last @; a password may hold what an address does not allow, but a port is
# none. Where a word ends is not known for sure, so rather too much is cut than too little.
# A `Path` of an address has lost a slash.
_USERINFO = re.compile(r"(?<=//)(?:[^\s/?#]*|[^\s/@:]*:(?!\d+[/?#])\S*)@|(?<=:/)[^\s/@:]+:(?!\d+[/?#])\S*@")
# All but tab and newline: escape sequences, what turns the direction of text, and halves of characters.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def redacted(text: str) -> str:
    """Return the text with the user and the password cut out of every address in it."""
    return _USERINFO.sub("", text)


def printable(text: str) -> str:
    r"""Return the text `redacted`, with control characters written as ``\x1b``: no data commands the terminal."""
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode("ascii"), redacted(text))


def logger(name: str) -> logging.Logger:
    """Return the logger of a module; what it logs is `printable`."""
    made = logging.getLogger(name)
    made.addFilter(_shown)
    return made


def _shown(record: logging.LogRecord) -> bool:
    record.msg, record.args = printable(record.getMessage()), ()
    return True


class InputError(Exception):
    """Something the user gave is wrong. The message shows no password and no control character.

    Args:
        problem: What is wrong, in one short sentence without a full stop.
        file: The file at fault.
        record: The record in it (image id, line number, row), where there is one.
        key: The key or column at fault, where there is one.
        mend: What to do about it, in one short sentence.
    """

    exit_code = 2

    def __init__(
        self,
        problem: str,
        *,
        file: str | Path | None = None,
        record: object | None = None,
        key: str | None = None,
        mend: str | None = None,
    ) -> None:
        self.problem, self.file, self.record, self.key, self.mend = problem, file, record, key, mend
        where = [str(file)] if file is not None else []
        where += [f"record {record}"] if record is not None else []
        where += [f"key '{key}'"] if key is not None else []
        head = f"{', '.join(where)}: " if where else ""
        tail = f". To mend: {mend}" if mend else ""
        super().__init__(printable(f"{head}{problem}{tail}."))


class DataCheckFailed(InputError):
    """A Great Expectations gate refused an artefact; the stage stops with exit code 3."""

    exit_code = 3


class Interrupted(Exception):
    """The stage was stopped and can be resumed by running it again; exit code 4."""

    exit_code = 4


# Exit code of what the program did not foresee: the same again would end the same.
FAULT = 5
