"""data/scenes of real captions: they are found where they lie, counted, and absent where the profile has none."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from regionclip.data.captions import open_captioned_images, write_caption_source
from regionclip.data.layout import captioned_scenes
from regionclip.errors import InputError
from regionclip.files import read_json, sha256_file, write_json
from regionclip.params.data import CaptionFiles


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _coco_captions() -> None:
    images = [{"id": number, "file_name": f"{number}.jpg"} for number in (3, 4, 5)]
    texts = [(3, "a dog"), (3, "a brown dog"), (4, "two cats"), (4, "  "), (5, "")]
    annotations = [{"image_id": image, "caption": text} for image, text in texts]
    write_json("sets/captions_train2017.json", {"images": images, "annotations": annotations})


def test_coco_captions_are_counted_and_read_from_their_place() -> None:
    """Three captions of two images; two empty captions and one image without any are counted, not lost."""
    _coco_captions()
    counts = write_caption_source(Path("data"), CaptionFiles(file="sets/captions_train2017.json", images="sets/train"))
    assert counts == {"images": 2, "captions": 3, "left_out_empty_caption": 2, "left_out_image_without_caption": 1}
    assert captioned_scenes() == (Path("sets/captions_train2017.json"), Path("sets/train"))
    records = list(open_captioned_images(*captioned_scenes()))
    assert [(record.key, record.image) for record in records] == [
        ("3", Path("sets/train/3.jpg")),
        ("4", Path("sets/train/4.jpg")),
    ]
    manifest = read_json("data/scenes/manifest.json")
    assert manifest["sha256"] == {"captions_train2017.json": sha256_file("sets/captions_train2017.json")}
    assert (manifest["source"], manifest["counts"]) == ("files", counts)


def test_json_lines_name_images_from_their_own_folder() -> None:
    Path("sets").mkdir()
    Path("sets/c.jsonl").write_text('{"image": "a.jpg", "caption": "a cup"}\n')
    assert write_caption_source(Path("data"), CaptionFiles(file="sets/c.jsonl", images=None)) == {
        "images": 1,
        "captions": 1,
    }
    assert captioned_scenes() == (Path("sets/c.jsonl"), None)
    assert next(iter(open_captioned_images(*captioned_scenes()))).image == Path("sets/a.jpg")


def test_shards_are_listed_with_their_bytes() -> None:
    Path("shards").mkdir()
    for number in (1, 0):
        with tarfile.open(f"shards/{number:05d}.tar", "w") as tar:
            for name, content in ((f"{number}.jpg", b"jpeg"), (f"{number}.txt", b"a cup")):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    size = Path("shards/00000.tar").stat().st_size
    counts = write_caption_source(Path("data"), CaptionFiles(file="shards", images=None))
    assert counts == {"shards": 2, "bytes": 2 * size}
    assert read_json("data/scenes/manifest.json")["bytes"] == {"00000.tar": size, "00001.tar": size}
    assert [record.captions for record in open_captioned_images(*captioned_scenes())] == [("a cup",), ("a cup",)]


def test_without_captions_the_folder_is_empty_and_a_reader_is_told() -> None:
    assert write_caption_source(Path("data"), None) == {}
    assert list(Path("data/scenes").iterdir()) == []
    with pytest.raises(InputError, match=r"data/scenes.*no captions"):
        captioned_scenes()


def test_captions_that_are_not_there_leave_what_was_there() -> None:
    _coco_captions()
    write_caption_source(Path("data"), CaptionFiles(file="sets/captions_train2017.json", images="sets/train"))
    with pytest.raises(InputError, match=r"sets/no\.json.*no captions"):
        write_caption_source(Path("data"), CaptionFiles(file="sets/no.json", images=None))
    assert captioned_scenes()[0] == Path("sets/captions_train2017.json")
