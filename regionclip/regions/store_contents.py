"""What a region store's ``store.json`` lists: the shards with rows, regions, bytes and checksum, and the index."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from regionclip.errors import InputError
from regionclip.files import read_json, sha256_file, write_json

CONTENTS, INDEX = "store.json", "index.arrow"
MEND = "run the stage that writes the store again"


class Entry(NamedTuple):
    """One file of a store.

    Attributes:
        file: Its name.
        rows: Images in it.
        regions: Regions in it; 0 for the index.
        bytes: Its size.
        sha256: Of its bytes.
    """

    file: str
    rows: int
    regions: int
    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path, rows: int, regions: int) -> Entry:
        """Return the entry of a file that is written."""
        return cls(path.name, rows, regions, path.stat().st_size, sha256_file(path))

    def check_size(self, folder: Path) -> None:
        """Refuse a file that is absent or was cut; cheap, so that a store of any size opens at once."""
        path = folder / self.file
        if not path.exists():
            raise InputError("the shard does not exist", file=path, mend=MEND)
        size = path.stat().st_size
        if size != self.bytes:
            raise InputError(f"the shard has {size} bytes, {CONTENTS} says {self.bytes}", file=path, mend=MEND)

    def check_bytes(self, folder: Path) -> None:
        """Refuse a file whose bytes changed since they were written."""
        self.check_size(folder)
        if sha256_file(folder / self.file) != self.sha256:
            raise InputError("the bytes changed since they were written (SHA-256)", file=folder / self.file, mend=MEND)


def write_contents(folder: Path, shards: list[Entry], index: Entry) -> None:
    """Write ``store.json``; a folder is a store once it is there."""
    write_json(folder / CONTENTS, {"index": index._asdict(), "shards": [entry._asdict() for entry in shards]})


def read_contents(folder: Path) -> tuple[list[Entry], Entry]:
    """Return the entries of the shards and of the index, each file there with its size.

    Raises:
        InputError: ``store.json`` is absent, of another form or lists no shard, or a file is absent or was cut.
    """
    contents = read_json(folder / CONTENTS)
    try:
        shards, index = [Entry(**item) for item in contents["shards"]], Entry(**contents["index"])
    except (KeyError, TypeError) as error:
        problem = f"not the contents of a region store ({error!r})"
        raise InputError(problem, file=folder / CONTENTS, mend=MEND) from None
    if not shards:
        raise InputError("the store lists no shard", file=folder / CONTENTS, mend=MEND)
    for entry in (*shards, index):
        entry.check_size(folder)
    return shards, index
