"""`regionclip detect`, `label`, `val`, `embed`: other tools read what is written, and no kill or other run harms it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pycocotools.coco import COCO

from regionclip import RegionCLIP, Result, cli
from regionclip.data.annotations.annotation_files import read_boxes
from regionclip.errors import InputError
from regionclip.files import write_json
from regionclip.inference.calibration import Calibration, Curve
from regionclip.inference.outputs import JOURNAL, Journal, Pictures, held_out, write_results
from tests.inference import conftest

NAMES, detector, on_cpu, workspace = conftest.NAMES, conftest.detector, conftest.on_cpu, conftest.workspace
LOW = "0.001"
GIVEN = ", ".join(NAMES)


@pytest.fixture
def photos(workspace: Path, tmp_path: Path) -> Path:
    """Seven pictures of two sizes, one of them in a folder below, and a broken file."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(1)
    for number in range(7):
        size = (160, 120) if number % 3 else (96, 128)
        place = folder / "more" if number == 5 else folder
        patches = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
        patches.resize(size, Image.Resampling.NEAREST).save(place / f"{number}.png")
    (folder / "2b.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(autouse=True)
def opened_once(detector: RegionCLIP, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands in this process share the detector."""
    monkeypatch.setattr(RegionCLIP, "open", lambda *_: detector)


def detect(photos: Path | list[str], out: Path, *more: str) -> int:
    """Run `regionclip detect`, with a threshold that the noise of the tiny detector passes."""
    sources = photos if isinstance(photos, list) else [str(photos)]
    return cli.main(
        ["detect", *sources, "--names", GIVEN, "--threshold", LOW, "--batch-size", "3", "--out", str(out), *more]
    )


def content(folder: Path) -> dict[str, bytes]:
    """All files of a folder but the journal, by name."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != JOURNAL)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def listed(folder: Path) -> set[str]:
    """Names in a folder."""
    return {path.name for path in folder.iterdir()}


def test_json_is_what_python_gives(photos: Path, tmp_path: Path, detector: RegionCLIP, capsys) -> None:
    """A line a picture, in transformers' dicts, to the last digit; the broken file is set aside, and counted."""
    assert detect(photos, tmp_path / "out") == 0
    lines = [json.loads(line) for line in (tmp_path / "out/detections.jsonl").read_text().splitlines()]
    rejected: list[InputError] = []
    wanted = list(detector.detect(photos, NAMES, threshold=float(LOW), batch_size=3, rejected=rejected))
    assert [line["source"] for line in lines] == [one.source for one in wanted] and len(wanted) == 7
    assert [line["detections"] for line in lines] == [one.to_hf() for one in wanted]
    (aside,) = [json.loads(line) for line in (tmp_path / "out/rejected.jsonl").read_text().splitlines()]
    assert aside["file"] == str(photos / "2b.jpg") and "cannot be decoded" in aside["reason"]
    rows = {line.rsplit(maxsplit=1)[0].strip(): line.split()[-1] for line in capsys.readouterr().out.splitlines()[:4]}
    objects = sum(len(one) for one in wanted)
    assert rows.items() >= {"pictures": "7", "set aside": "1", "objects": str(objects)}.items()
    assert listed(tmp_path / "out") == {JOURNAL, "detections.jsonl", "rejected.jsonl"}


def test_coco_is_read_by_pycocotools_supervision_and_our_reader(photos: Path, tmp_path: Path, detector) -> None:
    import supervision

    (photos / "2b.jpg").unlink()
    assert detect(photos, tmp_path / "out", "--format", "coco") == 0
    file = tmp_path / "out/detections.json"
    known = COCO(str(file))
    found = known.loadRes(known.dataset["annotations"])
    boxes = read_boxes(file)
    assert not boxes.faults and boxes.listed == {"images": 7, "annotations": len(found.anns)} and found.anns
    assert [category["name"] for category in boxes.content["categories"]] == list(NAMES)
    assert {image["file_name"] for image in boxes.content["images"]} > {"0.png", "more/5.png"}
    data = supervision.DetectionDataset.from_coco(str(photos), str(file))
    for path, _, marked in data:
        wanted = detector(path, NAMES, threshold=float(LOW))
        np.testing.assert_allclose(marked.xyxy, wanted.boxes, atol=1e-3)
        assert [data.classes[number] for number in marked.class_id] == wanted.names


def test_yolo_is_read_by_supervision(photos: Path, tmp_path: Path, detector: RegionCLIP) -> None:
    import supervision

    (photos / "2b.jpg").unlink()
    assert detect(photos, tmp_path / "out", "--format", "yolo") == 0
    labels, about = tmp_path / "out/labels", tmp_path / "out/data.yaml"
    assert (labels / "more/5.txt").read_text()
    data = supervision.DetectionDataset.from_yolo(str(photos), str(labels), str(about))
    assert data.classes == list(NAMES) and len(data) == 6
    for path, _, marked in data:
        wanted = detector(path, NAMES, threshold=float(LOW))
        np.testing.assert_allclose(marked.xyxy, wanted.boxes, atol=1e-3)


def test_csv_is_read_by_pandas_and_pictures_are_drawn(photos: Path, tmp_path: Path, detector: RegionCLIP) -> None:
    assert detect(photos, tmp_path / "out", "--format", "csv", "--pictures") == 0
    table = pd.read_csv(tmp_path / "out/detections.csv")
    assert list(table) == ["source", "name", "score", "x1", "y1", "x2", "y2"]
    wanted = detector(photos / "more/5.png", NAMES, threshold=float(LOW))
    own = table[table["source"] == str(photos / "more/5.png")]
    assert list(own["name"]) == wanted.names
    np.testing.assert_allclose(own[["x1", "y1", "x2", "y2"]], wanted.boxes, atol=1e-3)
    drawn = {path.relative_to(tmp_path / "out/pictures").as_posix() for path in (tmp_path / "out").rglob("*.png")}
    assert drawn == {*(f"{number}.png" for number in (0, 1, 2, 3, 4, 6)), "more/5.png"}
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out/pictures/more/5.png")), np.asarray(wanted.plot()))


def test_done_is_not_done_again_and_what_is_new_or_changed_is(
    photos: Path, tmp_path: Path, detector: RegionCLIP, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    assert detect(photos, tmp_path / "out") == 0
    before = content(tmp_path / "out")
    searched: list[int] = []
    search = detector._networks.search
    monkeypatch.setattr(
        detector._networks, "search", lambda records, rules: searched.append(len(records)) or search(records, rules)
    )
    capsys.readouterr()
    assert detect(photos, tmp_path / "out") == 0
    assert not searched and content(tmp_path / "out") == before
    assert "8 of 8 pictures are done already" in capsys.readouterr().out
    shutil.copy(photos / "1.png", photos / "1b.png")
    shutil.copy(photos / "6.png", photos / "0.png")
    (photos / "4.png").unlink()
    assert detect(photos, tmp_path / "out") == 0 and sum(searched) == 2
    assert detect(photos, tmp_path / "fresh") == 0
    lines = [
        [(line["source"], [one["label"] for one in line["detections"]]) for line in map(json.loads, text.splitlines())]
        for text in ((tmp_path / name / "detections.jsonl").read_text() for name in ("out", "fresh"))
    ]
    assert lines[0] == lines[1] and len(lines[0]) == 7


def test_other_arguments_start_anew_and_say_so(photos: Path, tmp_path: Path, capsys) -> None:
    """What the run before wrote is gone; files of others are never touched."""
    assert detect(photos, tmp_path / "out", "--format", "yolo", "--pictures") == 0
    (tmp_path / "out/notes.txt").write_text("mine")
    capsys.readouterr()
    assert detect(photos, tmp_path / "out", "--format", "csv", "--top-k", "1") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "an earlier run had another format, pictures, top_k; starting anew" in out and "done already" not in out
    assert set(content(tmp_path / "out")) == {"detections.csv", "rejected.jsonl", "notes.txt"}
    (tmp_path / "other/labels").mkdir(parents=True)
    assert detect(photos, tmp_path / "other", "--format", "yolo") == 2
    assert "other/labels: it is there already, and not of this command" in capsys.readouterr().err
    assert listed(tmp_path / "other") == {"labels"}


def test_any_name_of_a_picture_is_written(photos: Path, tmp_path: Path) -> None:
    """No Unicode, line ends, commas, quotes and what looks like a video's frame."""
    names = [os.fsdecode(b"\xff.png"), 'a, "b"\n.png', "c#1.png", "星.png"]
    for name in names:
        shutil.copy(photos / "1.png", tmp_path / "photos" / "more" / name)
    for form in ("json", "coco", "yolo", "csv"):
        assert detect(photos / "more", tmp_path / form, "--format", form, "--pictures") == 0
        assert listed(tmp_path / form / "pictures") == {"5.png", *names}
    lines = [json.loads(line) for line in (tmp_path / "json/detections.jsonl").read_text().splitlines()]
    assert {Path(line["source"]).name for line in lines} == {"5.png", *names}
    sources = pd.read_csv(tmp_path / "csv/detections.csv")["source"]
    assert cli.main(["embed", str(photos / "more"), "--boxes", "picture", "--out", str(tmp_path / "a.parquet")]) == 0
    assert set(pd.read_parquet(tmp_path / "a.parquet")["source"]) == set(sources)
    assert {Path(name).name for name in sources} == {"5.png", "\\udcff.png", *names[1:]}
    assert listed(tmp_path / "yolo/labels") == {f"{name.removesuffix('.png')}.txt" for name in ("5.png", *names)}


PROGRAM = """
import sys, time
from regionclip import cli
from regionclip.inference.networks import Networks
search = Networks.search
Networks.search = lambda *given: (time.sleep(0.4), search(*given))[1]
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_to_the_same_files(
    workspace: Path,
    photos: Path,
    tmp_path: Path,
) -> None:
    """Byte for byte those of a run without a break, and nothing half-written in between."""
    out = tmp_path / "out"
    arguments = [str(photos), "--names", GIVEN, "--threshold", LOW, "--batch-size", "2", "--model", str(workspace)]
    arguments += ["--format", "coco", "--pictures"]
    command = [sys.executable, "-c", PROGRAM, "detect", *arguments, "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        # Head, the broken file, and at least a whole batch of two.
        while time.monotonic() < deadline and process.poll() is None:
            if (out / JOURNAL).is_file() and (out / JOURNAL).read_bytes().count(b"\n") >= 4:
                process.kill()
                break
            time.sleep(0.02)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, errors
    assert not (out / "detections.json").exists()
    for picture in out.rglob("[!.]*.png"):
        Image.open(picture).load()
    with (out / JOURNAL).open("ab") as journal:
        journal.write(b'{"source": "torn')
    for folder in (out, tmp_path / "whole"):
        assert cli.main(["detect", *arguments, "--out", str(folder)]) == 0
        # The head, seven pictures and what is no picture, the end.
        assert len((folder / JOURNAL).read_text().splitlines()) == 10
    assert content(out) == content(tmp_path / "whole") and len(content(out)) == 9


def test_a_run_that_is_interrupted_goes_on(
    photos: Path, tmp_path: Path, detector: RegionCLIP, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """As by Ctrl-C or SIGTERM, in the second batch of three: two pictures of one size, then another."""
    search, calls = detector._networks.search, []

    def interrupted(*given: object) -> object:
        calls.append(given)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return search(*given)

    monkeypatch.setattr(detector._networks, "search", interrupted)
    assert detect(photos, tmp_path / "out") == 4
    assert "interrupted; run it again to go on" in capsys.readouterr().err
    assert listed(tmp_path / "out") == {JOURNAL}
    assert detect(photos, tmp_path / "out") == 0
    assert "3 of 8 pictures are done already" in capsys.readouterr().out
    assert detect(photos, tmp_path / "whole") == 0
    assert content(tmp_path / "out") == content(tmp_path / "whole")


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.7, 0.95])
def test_a_torn_journal_goes_on_to_the_same_files(photos: Path, tmp_path: Path, share: float) -> None:
    """Cut anywhere behind its head, as by a kill or the end of power."""
    assert detect(photos, tmp_path / "whole", "--format", "yolo") == 0
    whole = (tmp_path / "whole" / JOURNAL).read_bytes()
    (tmp_path / "out").mkdir()
    head = whole.index(b"\n") + 1
    (tmp_path / "out" / JOURNAL).write_bytes(whole[: head + int(share * (len(whole) - head))])
    assert detect(photos, tmp_path / "out", "--format", "yolo") == 0
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert (tmp_path / "out" / JOURNAL).read_bytes() == whole


def test_masks_outlive_a_break(photos: Path, tmp_path: Path) -> None:
    """A detector with masks: they are in the journal, and in COCO's file."""
    rng, source = np.random.default_rng(0), str(photos / "1.png")
    boxes, scores = np.array([[1, 2, 30, 40], [5, 5, 9, 9]], np.float32), np.array([0.9, 0.1], np.float32)
    masks = rng.integers(0, 2, (2, 120, 160)).astype(bool)
    found = Result(source, np.zeros((120, 160, 3), np.uint8), NAMES, boxes, scores, np.array([2, 0]), masks)
    arguments = {"batch_size": 1}
    with Journal(tmp_path / "out", arguments, []) as journal:
        journal.add(found)
        journal.add(replace(found[:0], source=str(photos / "2.png")))
    with Journal(tmp_path / "out", arguments, []) as journal:
        assert journal.done(source) and journal.done(str(photos / "2.png")) and not journal.done(str(photos / "3.png"))
        again, none = journal.results(NAMES)
        write_results("coco", tmp_path / "out", Pictures.of([str(photos)]), journal, NAMES)
    assert np.array_equal(again.masks, masks) and again.names == found.names and none.masks.shape == (0, 120, 160)
    coco = COCO(str(tmp_path / "out/detections.json"))
    assert np.array_equal(coco.annToMask(coco.anns[1]), masks[0])


def test_two_runs_do_not_share_a_folder(photos: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert detect(photos, out) == 0
    program = (
        "import fcntl, sys; f = open(sys.argv[1], 'a+b'); fcntl.lockf(f, fcntl.LOCK_EX); print(1, flush=True); input()"
    )
    command = [sys.executable, "-c", program, str(out / JOURNAL)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        assert detect(photos, out) == 2
        other.stdin.close()
    assert "another run writes into this folder" in capsys.readouterr().err


def test_video_frames_have_numbers(photos: Path, tmp_path: Path) -> None:
    import cv2

    film = cv2.VideoWriter(str(tmp_path / "film.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5, (160, 120))
    for number in (1, 2, 4):
        film.write(np.asarray(Image.open(photos / f"{number}.png"))[..., ::-1])
    film.release()
    for _ in range(2):
        assert detect(tmp_path / "film.avi", tmp_path / "out", "--format", "yolo", "--pictures") == 0
        files = [f"film.avi_{number:06d}" for number in range(3)]
        assert listed(tmp_path / "out/labels") == {f"{file}.txt" for file in files}
        assert listed(tmp_path / "out/pictures") == {f"{file}.jpg" for file in files}


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (["--names", "a,,b"], "key '--names': name 2 of 'a,,b' is empty"),
        (["--names", "none.txt"], "none.txt, key '--names': the file of names does not exist"),
        (["--names", "a, a"], "the name stands twice: 'a'"),
        (["--threshold", "2"], "2.0 is no number from 0 to 1"),
        (["--batch-size", "0"], "key 'batch_size': 0 is no whole number from 1 on"),
        (["--top-k", "0"], "key 'top_k'"),
    ],
)
def test_wrong_arguments_are_named(photos: Path, tmp_path: Path, more: list[str], problem: str, capsys) -> None:
    assert detect(photos, tmp_path / "out", *more) == 2
    assert problem in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_pictures_that_are_none_are_named(photos: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    for source, problem in (
        (photos / "none", "none of 1 pictures can be used; the first: the image does not exist"),
        (photos / "*.tif", "there are no pictures"),
        (photos / "2b.jpg", "none of 1 pictures can be used"),
    ):
        assert detect(source, out) == 2
        assert problem in capsys.readouterr().err
    shutil.copy(photos / "1.png", photos / "1.bmp")
    assert detect(photos, out, "--format", "yolo") == 2
    assert "1.png: its results would have the name of those of" in capsys.readouterr().err
    assert detect([str(photos), str(tmp_path / "film.avi")], out, "--format", "yolo") == 2
    assert "1.png: its results would have the name of those of" in capsys.readouterr().err
    assert detect(photos, photos / "out", "--pictures") == 2


def test_pictures_of_a_folder_beside_are_written_below_the_own_one(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`..` leads out of no folder that is written, and pictures of one name stay apart."""
    (photos / "2b.jpg").unlink()
    shutil.copytree(photos / "more", tmp_path / "other")
    monkeypatch.chdir(photos)
    assert detect(["more", "../other"], tmp_path / "out", "--format", "yolo", "--pictures") == 0
    assert {"pictures/photos/more/5.png", "labels/photos/more/5.txt"} < content(tmp_path / "out").keys()
    assert {"pictures/other/5.png", "labels/other/5.txt", "data.yaml"} < content(tmp_path / "out").keys()


@pytest.mark.parametrize("wrong", ["", " ", "a,", ",a", 'a, "", b'])
def test_names_that_are_nothing_are_refused(photos: Path, tmp_path: Path, wrong: str, capsys) -> None:
    assert detect(photos, tmp_path / "out", "--names", wrong) == 2
    assert "key '--names': name" in (said := capsys.readouterr().err) and "is empty" in said
    assert not (tmp_path / "out").exists()


def test_names_may_come_from_a_file(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("star\nred circle\n", encoding="utf-8")
    assert detect(photos, tmp_path / "out", "--names", str(tmp_path / "names.txt"), "--format", "csv") == 0
    assert set(pd.read_csv(tmp_path / "out/detections.csv")["name"]) <= {"star", "red circle"}


def test_labels_make_a_data_set_that_data_init_reads(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    arguments = ["label", str(photos), "--names", GIVEN, "--threshold", LOW, "--out", str(tmp_path / "set")]
    assert cli.main([*arguments, "--val", "0.4"]) == 0
    parts = [read_boxes(tmp_path / f"set/{name}.json") for name in ("train", "val")]
    assert not any(part.faults for part in parts)
    names = [{image["file_name"] for image in part.content["images"]} for part in parts]
    assert names[0] and names[1] and not names[0] & names[1] and len(names[0] | names[1]) == 7
    assert all(0 < box["score"] < 1 for part in parts for box in part.content["annotations"])
    monkeypatch.chdir(tmp_path)
    init = ["data", "init", "--train", "set/train.json", "--val", "set/val.json", "--images", str(photos)]
    capsys.readouterr()
    assert cli.main([*init, "--name", "own"]) == 0
    out = capsys.readouterr().out
    assert f"{len(names[0])} pictures in train, {len(names[1])} in val; all of them are there." in out
    assert "set aside" not in out
    assert cli.main([*arguments[:-1], "other", "--val", "1"]) == 2


def test_more_pictures_move_none_between_the_parts() -> None:
    names = [f"{number}.jpg" for number in range(400)]
    some, more = held_out(names[:200], 0.1), held_out(names, 0.1)
    assert some == {name for name in more if name in names[:200]} and 20 <= len(more) <= 60
    assert len(held_out(names[:2], 0.0001)) == len(held_out(names[:2], 0.9999)) == 1
    with pytest.raises(InputError, match="1 pictures are no data set"):
        held_out(names[:1], 0.5)


def _truth(detector: RegionCLIP, photos: Path, file: Path, **more: object) -> None:
    """What the detector finds above a score that it keeps many boxes below, as the truth: then its AP is 1."""
    images, boxes = [], []
    for number, path in enumerate(sorted(photos.glob("*.png")), 1):
        found = detector(path, NAMES, threshold=0.001, top_k=1)
        images.append({"id": number, "file_name": path.name, "width": found.size[0], "height": found.size[1], **more})
        boxes += found.to_coco(number)
    for number, box in enumerate(boxes, 1):
        box |= {"id": number, "area": box["bbox"][2] * box["bbox"][3], "iscrowd": 0}
    categories = [{"id": number, "name": name} for number, name in enumerate(NAMES, 1)]
    write_json(file, {"images": images, "annotations": boxes, "categories": categories})


def test_val_measures_by_the_protocol_that_fits(photos: Path, tmp_path: Path, detector: RegionCLIP, capsys) -> None:
    """Its own detections as the truth: AP is what COCO's evaluator gives for the same file and detections."""
    from pycocotools.cocoeval import COCOeval

    file = tmp_path / "truth.json"
    _truth(detector, photos, file)
    arguments = ["val", str(file), "--images", str(photos), "--out", str(tmp_path / "numbers.json")]
    assert cli.main(arguments) == 0
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert numbers["protocol_name"] == "generalised" and numbers["novel"] == ["crown", "red circle"]
    known = COCO(str(file))
    rows = [
        row
        for number, image in known.imgs.items()
        for row in detector(photos / image["file_name"], NAMES, threshold=0.001).to_coco(number)
    ]
    official = COCOeval(known, known.loadRes(rows), "bbox")
    official.evaluate()
    official.accumulate()
    official.summarize()
    assert numbers["ap"] == pytest.approx(official.stats[0], abs=1e-6) and numbers["ap"] > 0.1
    assert numbers["ap50"] == pytest.approx(official.stats[1], abs=1e-6)
    out = capsys.readouterr().out
    assert f"{100 * numbers['ap50_novel']:.1f}" in out and "AP50 novel" in out


def test_val_without_novel_classes_is_closed_set(photos: Path, tmp_path: Path, detector: RegionCLIP) -> None:
    """Those that the detector was trained on are base."""
    file = tmp_path / "truth.json"
    _truth(detector, photos, file)
    content = json.loads(file.read_text())
    content["categories"] = content["categories"][:2]
    content["annotations"] = [box for box in content["annotations"] if box["category_id"] < 3]
    write_json(file, content)
    assert cli.main(["val", str(file), "--images", str(photos), "--out", str(tmp_path / "numbers.json")]) == 0
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert numbers["protocol_name"] == "closed_set" and "closed set: 2 classes" in numbers["protocol"]


def test_val_knows_lvis_by_its_frequencies(photos: Path, tmp_path: Path, detector: RegionCLIP, capsys) -> None:
    file = tmp_path / "lvis.json"
    _truth(detector, photos, file, neg_category_ids=[], not_exhaustive_category_ids=[])
    content = json.loads(file.read_text())
    for category, frequency in zip(content["categories"], "rcff", strict=True):
        category |= {"frequency": frequency, "name": category["name"].replace(" ", "_")}
    for box in content["annotations"]:
        box["segmentation"] = [[0, 0, 5, 0, 5, 5]]
    write_json(file, content)
    assert cli.main(["val", str(file), "--images", str(photos), "--out", str(tmp_path / "numbers.json")]) == 0
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert numbers["protocol_name"] == "federated" and numbers["ap"] > 0.1 and numbers["apr"] is not None
    (photos / "1.png").unlink()
    assert cli.main(["val", str(file), "--images", str(photos)]) == 2
    assert "1 pictures are not there, such as '1.png'" in capsys.readouterr().err


def test_embed_writes_features_of_proposals_pictures_and_given_boxes(
    photos: Path, tmp_path: Path, detector: RegionCLIP, capsys
) -> None:
    file = tmp_path / "truth.json"
    _truth(detector, photos, file)
    assert cli.main(["embed", str(photos), "--out", str(tmp_path / "regions.parquet"), "--most", "5"]) == 0
    assert cli.main(["embed", str(photos), "--out", str(tmp_path / "whole.parquet"), "--boxes", "picture"]) == 0
    assert cli.main(["embed", str(photos), "--out", str(tmp_path / "own.parquet"), "--boxes", str(file)]) == 0
    regions, whole, own = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("regions", "whole", "own"))
    assert len(whole) == 7 and set(regions.groupby("source").size()) == {5}
    picture = photos / "1.png"
    for table, boxes in (
        (regions, detector.proposals(picture, 5)),
        (whole, [[0, 0, 160, 120]]),
        (own, detector(picture, NAMES, threshold=0.001, top_k=1).boxes),
    ):
        rows = table[table["source"] == str(picture)]
        np.testing.assert_allclose(np.stack(rows["box"]), boxes, atol=1e-3)
        np.testing.assert_allclose(np.stack(rows["feature"]), detector.features(picture, boxes), atol=1e-4)
    aside = [json.loads(line)["file"] for line in (tmp_path / "regions_rejected.jsonl").read_text().splitlines()]
    assert aside == [str(photos / "2b.jpg")]
    # The file has no boxes for what lies below.
    reasons = [json.loads(line)["reason"] for line in (tmp_path / "own_rejected.jsonl").read_text().splitlines()]
    assert len(reasons) == 2 and "no boxes are given for it" in reasons


def test_boxes_may_be_a_coco_file(photos: Path, tmp_path: Path, detector: RegionCLIP) -> None:
    file = tmp_path / "truth.json"
    _truth(detector, photos, file)
    pictures = sorted(photos.glob("*.png"))
    for result in detector.detect(pictures, NAMES, boxes=file, threshold=0):
        given = detector(result.source, NAMES, threshold=0.001, top_k=1).boxes
        wanted = detector(result.source, NAMES, given, threshold=0)
        assert result.names == wanted.names and len(wanted)
        np.testing.assert_allclose(result.boxes, wanted.boxes, atol=1e-3)
    with pytest.raises(InputError, match="5.png, key 'boxes': no boxes are given for it"):
        list(detector.detect(photos / "more", NAMES, boxes=file))


PAGE = (Path(__file__).parents[1] / "docs/use.md").read_text(encoding="utf-8")


def test_blocks_of_the_page_run(
    workspace: Path,
    photos: Path,
    tmp_path: Path,
    detector: RegionCLIP,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those of docs/use.md on Python and these commands, each where the one before left off."""
    import cv2

    monkeypatch.chdir(tmp_path)
    Path("params.yaml").symlink_to(workspace / "params.yaml")
    shutil.copytree(workspace / "artifacts", "artifacts")
    shutil.copytree(workspace / "data/sets/coco", "data/sets/coco")
    shutil.copytree("data/sets/coco/val", "data/sets/coco/dev")
    shutil.copy("data/sets/coco/annotations/val.json", "data/sets/coco/annotations/dev.json")
    shutil.copy(Path(__file__).parents[1] / "dvc.yaml", "dvc.yaml")
    Path("names.txt").write_text("forklift\npallet\n")
    _truth(detector, photos, Path("annotations.json"))
    shutil.copy("annotations.json", "dev.json")
    film = cv2.VideoWriter("film.avi", cv2.VideoWriter.fourcc(*"MJPG"), 5, (160, 120))
    film.write(np.asarray(Image.open(photos / "1.png")))
    film.release()
    sections = PAGE.partition("## Python")[2]
    mine = ("## Python", "Example", "Scores", "Command: ")
    parts = [part for part in f"## Python{sections}".split("\n## ") if part.startswith(mine)]
    names: dict[str, object] = {}
    count = 0
    for language, block in re.findall(r"```(\w*)\n(.*?)```", "\n".join(parts), re.DOTALL):
        count += 1
        if language == "python":
            if "thresholds" in block:
                # The untrained detector is right nowhere.
                curve = Curve(1.0, 1.0, {"0.8": 0.2}, 30)
                names["model"].calibration = Calibration(("forklift",), curve, curve, "", "")
            exec(block, names)
            continue
        for line in block.splitlines():
            # The untrained detector is sure of nothing.
            words = shlex.split(line.replace("--threshold 0.5", "--threshold 0.001"), comments=True)
            assert words[0] == "regionclip" and cli.main(words[1:]) == 0, line
    assert count == 12
    assert names["cosines"].shape == (20, 2)
    assert names["result"].confidence is not None and Path("artifacts/calibration/coco/regionclip.json").is_file()
    written = ["found/detections.jsonl", "drawn/pictures", "coco/detections.json", "numbers.json", "objects.parquet"]
    assert all(Path(name).exists() for name in written)
    Path("artifacts/calibration/coco/regionclip.json").unlink()
    monkeypatch.chdir(tmp_path.parent)
    assert cli.main(["calibrate", "--model", tmp_path.name]) == 0
    assert (tmp_path / "artifacts/calibration/coco/regionclip.json").is_file()


def test_lines_that_serve_what_people_ask_for_are_there() -> None:
    """Of the table in docs/use.md: the parser takes each command, and `RegionCLIP` has each method."""
    table = PAGE.partition("## What people ask for")[2]
    codes = [code for line in table.splitlines() if line.startswith("| ") for code in re.findall("`(.*?)`", line)]
    commands = [part for code in codes for part in code.split(" && ") if part.startswith("regionclip ")]
    for command in commands:
        words = shlex.split(command)[1:]
        # A bare name points to its own section.
        if words[1:]:
            cli.build_parser().parse_args(words)
        else:
            with pytest.raises(SystemExit, match="^0$"):
                cli.build_parser().parse_args([*words, "--help"])
    methods = {name for code in codes for name in re.findall(r"\bmodel\.(\w+)", code)}
    assert len(commands) >= 9 and len(methods) >= 5 and all(hasattr(RegionCLIP, name) for name in methods)
