"""The commands of ``regionclip data``: their help, what they print and the code that each ending has."""

from __future__ import annotations

from pathlib import Path

import pytest

from regionclip import cli
from regionclip.cli_data import SETS
from regionclip.stages import runner


def _data(*arguments: str) -> list[str]:
    return ["data", *arguments]


def test_the_data_stage_still_runs_without_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    monkeypatch.setattr(runner, "run_stage", lambda *arguments: called.append(arguments))
    assert cli.main(["data"]) == 0 and called == [("data", None)]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("fetch", [*SETS, "--mirror", "goes on from where it was"]),
        ("status", ["Exit code 0 if all is there, else 1"]),
        ("init", ["--train JSON", "--novel TXT", "--clip PATH", "--captions PATH", "docs/your-data.md"]),
        ("convert", ["{voc,yolo,cityscapes,foggy_cityscapes}", "--split NAME", "listed beside OUT and counted"]),
    ],
)
def test_help_of_the_commands_on_data(command: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(_data(command, "--help"))
    text = " ".join(capsys.readouterr().out.split())
    assert caught.value.code == 0 and all(word in text for word in words)


def test_the_data_sets_of_the_command_are_those_of_the_table() -> None:
    from regionclip.data.sources import SOURCES

    assert list(SOURCES) == list(SETS)


def test_status_tells_by_its_code_whether_all_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(_data("status", "--root", str(tmp_path))) == 1
    text = capsys.readouterr().out
    assert text.count("missing") == 11 and all(name in text for name in SETS)
    (tmp_path / "flickr30k/flickr30k-images").mkdir(parents=True)
    (tmp_path / "flickr30k/dataset_flickr30k.json").touch()
    for number in range(31_783):
        (tmp_path / f"flickr30k/flickr30k-images/{number}.jpg").touch()
    assert cli.main(_data("status", "flickr30k", "--root", str(tmp_path))) == 0
    assert "by count only" in " ".join(capsys.readouterr().out.split())


def test_a_mirror_that_lacks_the_file_and_an_unknown_set_end_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = _data("fetch", "coco2017", "--root", str(tmp_path), "--mirror", str(tmp_path))
    assert cli.main(arguments) == 2 and "the mirror lacks the file" in capsys.readouterr().err
    assert cli.main(_data("status", "voc", "--root", str(tmp_path))) == 2
    assert "there is no data set 'voc'" in capsys.readouterr().err


def test_init_shows_what_it_found_and_the_next_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    from regionclip.files import write_json

    monkeypatch.chdir(tmp_path)
    for split, given in (("train", [[1, 1, 10, 10]]), ("val", [[1, 1, 10, 10], [1, 1, -10, 10]])):
        Image.new("RGB", (32, 32)).save(f"{split}.png")
        image = {"id": 1, "file_name": f"{split}.png", "width": 32, "height": 32}
        boxes = [{"id": i, "image_id": 1, "category_id": 1, "bbox": box} for i, box in enumerate(given)]
        write_json(f"{split}.json", {"images": [image], "annotations": boxes, "categories": [{"id": 1, "name": "cup"}]})
    assert cli.main(_data("init", "--train", "train.json", "--val", "val.json", "--images", ".", "-o", "own.yaml")) == 0
    text = capsys.readouterr().out
    for words in (
        "cup    base  1               1",
        "1 pictures in train, 1 in val",
        "Wrong; it is set aside, and too much of it stops the run:\n  - val.json: 1 x the box has a negative size",
        "To know:\n  - there is no CLIP at weights/clip_rn50.safetensors",
        "own.yaml is written. Next:\n  cp own.yaml params.yaml\n  dvc repro check_data",
    ):
        assert words in text
    assert Path("own.yaml").exists()
