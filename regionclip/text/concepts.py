"""The pool of concepts: the names that regions may be matched to, and its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from regionclip.errors import InputError
from regionclip.files import read_json, sha256_file, write_json, write_text

_MEND = "run the stage `concepts` again"


@dataclass(frozen=True)
class ConceptPool:
    """The concepts that occur often enough, most frequent first.

    Attributes:
        concepts: Names, by falling count and then by name.
        counts: Mentions of each.
        parser: Version of the parser that found them.
        minimum_count: Mentions that a concept needed.
        sources: SHA-256 of each caption file by its path.
    """

    concepts: tuple[str, ...]
    counts: tuple[int, ...]
    parser: str
    minimum_count: int
    sources: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_counts(
        cls, counts: Mapping[str, int], parser: str, minimum_count: int, sources: Mapping[str, str]
    ) -> ConceptPool:
        """Cut a count at ``minimum_count`` and sort it."""
        kept = sorted(((-count, name) for name, count in counts.items() if count >= minimum_count))
        names, numbers = tuple(name for _, name in kept), tuple(-count for count, _ in kept)
        return cls(names, numbers, parser, minimum_count, dict(sources))

    def __len__(self) -> int:
        return len(self.concepts)

    def save(self, path: str | Path) -> None:
        """Write ``path`` (lines ``concept,count`` without a header, the official text format) and a JSON beside it."""
        path = Path(path)
        lines = [f"{name},{count}\n" for name, count in zip(self.concepts, self.counts, strict=True)]
        write_text(path, "".join(lines))
        about = {
            "concepts": len(self),
            "parser": self.parser,
            "minimum_count": self.minimum_count,
            "sources": dict(self.sources),
            "sha256": sha256_file(path),
        }
        write_json(path.with_suffix(".json"), about)

    @classmethod
    def load(cls, path: str | Path) -> ConceptPool:
        """Read what `save` wrote.

        Raises:
            InputError: A file is missing, or the two do not fit each other.
        """
        path = Path(path)
        about_file = path.with_suffix(".json")
        about = read_json(about_file)
        for key, kind in (("parser", str), ("minimum_count", int), ("sources", dict), ("sha256", str)):
            if not isinstance(about, dict) or not isinstance(about.get(key), kind):
                raise InputError(f"the key is missing or no {kind.__name__}", file=about_file, key=key, mend=_MEND)
        if not path.is_file():
            raise InputError("the file does not exist", file=path, mend=_MEND)
        if sha256_file(path) != about["sha256"]:
            raise InputError(f"it does not fit the checksum in {about_file.name}", file=path, mend=_MEND)
        rows = [line.rpartition(",") for line in path.read_text(encoding="utf-8").splitlines()]
        names, counts = tuple(name for name, _, _ in rows), tuple(int(count) for _, _, count in rows)
        return cls(names, counts, about["parser"], about["minimum_count"], about["sources"])
