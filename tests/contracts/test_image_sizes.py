"""Sizes of captioned images: from a list, or from headers alone, after the EXIF turn."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from regionclip.data.annotations.tables import header_sizes, listed_sizes
from regionclip.data.captions import CaptionedImage, open_captioned_images


def test_sizes_come_from_the_list(clean_data: Path) -> None:
    sizes = listed_sizes(clean_data / "scenes/captions.json")
    assert sizes.to_dict("list") == {"id": [1, 2, 3], "width": [40] * 3, "height": [30] * 3}


def test_sizes_come_from_headers_of_files_and_shards(clean_data: Path, tmp_path: Path) -> None:
    shards = header_sizes(open_captioned_images(clean_data / "pairs/train"), str)
    assert shards["id"].tolist() == ["000000000", "000000001", "000000002"] and set(shards["width"]) == {40}
    image = Image.new("RGB", (20, 10))
    exif = image.getexif()
    exif[0x0112] = 8
    image.save(tmp_path / "a.jpg", exif=exif)
    record = CaptionedImage("7", tmp_path / "a.jpg", ("a star",))
    assert header_sizes([record], int).to_numpy().tolist() == [[7, 10, 20]]
    (tmp_path / "a.jpg").write_bytes(b"")
    assert header_sizes([record], int)[["width", "height"]].isna().all(axis=None)
