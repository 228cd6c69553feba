"""Contract of image files: absent, cut, foreign and wrongly sized ones are found."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from regionclip.contracts.gate import gate
from regionclip.contracts.pictures import image_file_check, image_files_table
from regionclip.data.pictures import look
from regionclip.errors import DataCheckFailed

SECOND = "scenes/images/000000000002.jpg"


def _check(data: Path) -> None:
    names = [f"{number:012d}.jpg" for number in (1, 2, 3)]
    images = pd.DataFrame({"id": [1, 2, 3], "name": names, "width": 40, "height": 30})
    table = image_files_table(images, data / "scenes/images")
    gate("images", [image_file_check("scenes", table)], data / "reports")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _resize(path: Path) -> None:
    Image.new("RGB", (41, 30)).save(path)


def test_clean_images_pass(data: Path) -> None:
    _check(data)
    assert (data / "reports/checks/images.json").is_file()


@pytest.mark.parametrize(
    ("plant", "problem"),
    [
        (_cut, "does not decode"),
        (lambda path: path.write_bytes(b""), "does not decode"),
        (lambda path: path.write_text("<html>not found</html>"), "does not decode"),
        (_resize, "another size"),
        (Path.unlink, "does not exist"),
    ],
)
def test_a_planted_fault_is_named(data: Path, plant, problem: str) -> None:
    plant(data / SECOND)
    with pytest.raises(DataCheckFailed, match=problem) as caught:
        _check(data)
    assert caught.value.file == str(data / SECOND)
    assert caught.value.record.startswith("id 2") and caught.value.mend and caught.value.key


def test_why_a_cut_image_does_not_decode_is_told(data: Path) -> None:
    _cut(data / SECOND)
    assert "truncated" in look((data / SECOND).read_bytes()).error


def test_the_size_is_what_loaders_see_after_the_exif_turn() -> None:
    image, file = Image.new("RGB", (40, 30)), BytesIO()
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(file, "JPEG", exif=exif)
    assert look(file.getvalue())[:3] == (None, 30, 40)
