"""Errors that name the file, the record, the key and the mend, and the exit code that each gives a stage."""

from __future__ import annotations

from pathlib import Path


class InputError(Exception):
    """Something the user gave is wrong.

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
        super().__init__(f"{head}{problem}{tail}.")


class DataCheckFailed(InputError):
    """A Great Expectations gate refused an artefact; the stage stops with exit code 3."""

    exit_code = 3


class Interrupted(Exception):
    """The stage was stopped and can be resumed by running it again; exit code 4."""

    exit_code = 4
