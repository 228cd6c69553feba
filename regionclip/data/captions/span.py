"""ImageSpan: where an undecoded image lies inside a larger file."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ImageSpan:
    """An image in a tar shard or, as base64, in a row of a TSV, which is read when it is wanted.

    Attributes:
        file: The larger file.
        offset: Its first byte.
        size: Bytes; in a TSV at least the rest of the row.
        base64: Whether the bytes are base64 that a line end closes.
    """

    file: Path
    offset: int
    size: int
    base64: bool = False

    def read(self) -> bytes:
        """Return the bytes of the encoded image.

        Raises:
            OSError: The file cannot be read.
            ValueError: The bytes are no base64.
        """
        with self.file.open("rb", buffering=0) as handle:
            handle.seek(self.offset)
            data = handle.read(self.size)
        return base64.b64decode(data.split(b"\n", 1)[0]) if self.base64 else data
