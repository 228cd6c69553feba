"""Reading captioned images from WebDataset shards: what it costs beside decoding them.

Run by ``python -m benchmarks.data shards``. The images are smooth noise, 640 x 480 pixels, JPEG of quality 90, about
the bytes of a photograph. Reading is by random access over all shards, as pretraining does it.
"""

from __future__ import annotations

import io
import statistics
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import webdataset
from PIL import Image

from regionclip.data.captions import CaptionTable, decode_image, open_captioned_images

IMAGES, SHARDS, ROUND = 4000, 8, 50
PROMISED_RATIO = 2.0  # reading no slower than decoding


def shards_benchmark(images: int = IMAGES) -> dict[str, Any]:
    """Write shards and read them.

    Returns:
        Numbers by name: ``ratio`` is the median over rounds of reading and decoding `ROUND` images to decoding the same
        ones from memory, one after the other.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "set"
        size = _write(folder, images)
        open_captioned_images(folder / "00000.tar").table()  # imports what reading needs
        start = time.perf_counter()
        table = open_captioned_images(folder).table()
        indexed = time.perf_counter()
        table = open_captioned_images(folder).table()
        opened = time.perf_counter()
        found = {"images": images, "kilobytes_an_image": size / images / 1e3}
        found |= {"indexed_images_a_second": images / (indexed - start), "open_seconds": opened - indexed}
        found |= _paired(table, np.random.default_rng(0).permutation(images))
        start = time.perf_counter()
        urls = [str(file) for file in sorted(folder.glob("*.tar"))]
        read = sum(1 for _ in webdataset.WebDataset(urls, shardshuffle=False, empty_check=False))
        return {**found, "read_microseconds_webdataset_in_order": 1e6 * (time.perf_counter() - start) / read}


def _paired(table: CaptionTable, order: np.ndarray) -> dict[str, float]:
    ratios, reading, decoding = [], [], []
    for start in range(0, len(order) - ROUND + 1, ROUND):
        places = order[start : start + ROUND].tolist()
        begin = time.perf_counter()
        contents = [table[place].image.read() for place in places]
        reading.append(time.perf_counter() - begin)
        # Either stands first in half of the rounds.
        both_first = start // ROUND % 2
        if both_first:
            both = _decode_from(table, places)
        decoding.append(_decode(contents))
        if not both_first:
            both = _decode_from(table, places)
        ratios.append(both / decoding[-1])
    return {
        "ratio": statistics.median(ratios),
        "read_microseconds_at_random": 1e6 * statistics.median(reading) / ROUND,
        "decode_microseconds": 1e6 * statistics.median(decoding) / ROUND,
    }


def _decode_from(table: CaptionTable, places: list[int]) -> float:
    """Return the seconds that reading and decoding take."""
    start = time.perf_counter()
    for place in places:
        decode_image(table[place].image)
    return time.perf_counter() - start


def _decode(contents: list[bytes]) -> float:
    """Return the seconds that decoding takes."""
    start = time.perf_counter()
    for content in contents:
        decode_image(content)
    return time.perf_counter() - start


def _write(folder: Path, images: int) -> int:
    """Write the shards; return the bytes of the images."""
    folder.mkdir()
    rng, total = np.random.default_rng(0), 0
    for shard in range(SHARDS):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
            for number in range(shard * images // SHARDS, (shard + 1) * images // SHARDS):
                noise = Image.fromarray(rng.integers(0, 256, (90, 120, 3), np.uint8))
                data = io.BytesIO()
                noise.resize((640, 480), Image.Resampling.BICUBIC).save(data, "JPEG", quality=90)
                total += data.tell()
                for suffix, part in (("jpg", data.getvalue()), ("txt", b"a picture of noise")):
                    about = tarfile.TarInfo(f"{number:09d}.{suffix}")
                    about.size = len(part)
                    tar.addfile(about, io.BytesIO(part))
    return total
