"""What bit rot, broken transfers and bad programs do to the bytes of a file."""

from __future__ import annotations

import random

_ODD = (b"\0", b"\xff", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\x01", b"\x80", b"\xff\xd8")


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Return the content with one to three changes; once in ten times as it is."""
    data = bytearray(content)
    if rng.random() < 0.1:
        return content
    for _ in range(rng.randint(1, 3)):
        # Headers are small and decide most.
        at = rng.randrange(min(len(data), 64) if rng.random() < 0.5 else len(data)) if data else 0
        kind = rng.randrange(7)
        if kind == 0 and data:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            odd = rng.choice(_ODD)
            data[at : at + len(odd)] = odd
        elif kind == 2:
            data[at : at + rng.randint(1, 40)] = rng.randbytes(rng.randint(1, 40))
        elif kind == 3:
            del data[at : at + rng.randint(1, 200)]
        elif kind == 4:
            data[at:at] = data[at : at + rng.randint(1, 100)]
        elif kind == 5:
            data[at : at + rng.randint(1, 2000)] = bytes(rng.randint(1, 100))
        elif rng.random() < 0.3:
            del data[at:]
    return bytes(data)
