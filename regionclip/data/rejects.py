"""Bad records set aside: kept with their reason in ``*_rejected.jsonl``, counted, and limited to a fraction."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

from regionclip.errors import DataCheckFailed, InputError, printable
from regionclip.files import atomic_path

SUFFIX = "_rejected.jsonl"


def reason(error: InputError) -> str:
    """Return what kind of error it is: its problem without the details in brackets and without numbers."""
    return re.sub(r"\d+ of \d+", "some", error.problem.split(" (")[0])


class Rejects:
    """The records that a reading sets aside; the file is written when the ``with`` block ends, also by an error.

    Each line has ``file``, ``record``, ``key``, ``reason`` and ``mend``. A record that is met again, because its source
    is read again, is kept once. An earlier file is replaced, and removed where nothing is set aside now.

    Args:
        path: The file to write, its name ending in ``_rejected.jsonl``.
        limit: Largest fraction of a source's records that may be set aside, 0 to 1.
    """

    def __init__(self, path: str | Path, limit: float) -> None:
        self.path, self.limit = Path(path), limit
        self._errors: dict[str, InputError] = {}

    def __enter__(self) -> Rejects:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._errors:
            self.path.unlink(missing_ok=True)
            return
        with atomic_path(self.path) as beside:
            beside.write_text("".join(f"{line}\n" for line in self._errors), encoding="utf-8")

    def __len__(self) -> int:
        return len(self._errors)

    def add(self, error: InputError) -> None:
        """Set aside the record that an error names."""
        line = {"file": error.file, "record": error.record, "key": error.key, "reason": error.problem}
        # Names in archives may be no Unicode or end a line, which no page could show.
        texts = {
            key: None if value is None else printable(str(value)) for key, value in {**line, "mend": error.mend}.items()
        }
        self._errors.setdefault(json.dumps(texts, ensure_ascii=False), error)

    def counts(self) -> dict[str, int]:
        """How many records were set aside, by kind of reason, the most frequent first."""
        return dict(Counter(reason(error) for error in self._errors.values()).most_common())

    def check(self, rejected: int, total: int, file: str | Path) -> None:
        """Stop when too much was set aside.

        Args:
            rejected: Records of a source that were set aside.
            total: All its records.
            file: The source.

        Raises:
            DataCheckFailed: The fraction is above the limit; it gives the counts by reason.
        """
        if rejected > self.limit * total:
            counts = ", ".join(f"{count} x {why}" for why, count in self.counts().items())
            problem = f"{rejected} of {total} records were set aside, more than the limit of {self.limit:.2%}: {counts}"
            mend = f"mend the records that {self.path} lists, or raise the limit"
            raise DataCheckFailed(problem, file=file, mend=mend)
