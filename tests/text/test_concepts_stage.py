"""Stage concepts: captions in, pool and coverage out."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from regionclip.errors import InputError
from regionclip.files import read_json, sha256_file
from regionclip.stages import concepts
from regionclip.text.concepts import ConceptPool

CAPTIONS = ["a red star", "two red stars and a stop sign", "the boat"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with three captioned scenes and two lists of classes."""
    monkeypatch.chdir(tmp_path)
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 8, "height": 8} for i in range(3)]
    annotations = [{"id": i, "image_id": i, "caption": caption} for i, caption in enumerate(CAPTIONS)]
    _write(tmp_path / "data/scenes/captions.json", {"images": images, "annotations": annotations})
    (tmp_path / "data/scenes/images").mkdir()
    for image in images:
        (tmp_path / "data/scenes/images" / image["file_name"]).write_bytes(b"looked at by nothing here")
    for dataset, names in {"coco": ("star", "ring"), "lvis": ("red star", "blue boat")}.items():
        classes = [{"id": i, "name": name, "split": ("base", "novel")[i]} for i, name in enumerate(names)]
        _write(tmp_path / f"data/sets/{dataset}/classes.json", {"dataset": dataset, "classes": classes})
    return tmp_path


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))


def _context(minimum_count: int) -> SimpleNamespace:
    params = SimpleNamespace(parser="pattern", modifiers=["compound", "adjective"], minimum_count=minimum_count)
    rest = {"pretrain": SimpleNamespace(weights=None), "quarantine": SimpleNamespace(max_fraction=1.0)}
    return SimpleNamespace(params=SimpleNamespace(concepts=params, **rest))


def test_the_pool_and_its_coverage_are_written(project: Path) -> None:
    metrics = concepts.run(_context(1))
    pool = ConceptPool.load("artifacts/concepts/concepts.csv")
    assert dict(zip(pool.concepts, pool.counts, strict=True)) == {"red star": 2, "star": 2, "boat": 1, "stop sign": 1}
    assert pool.sources == {"data/scenes/captions.json": sha256_file("data/scenes/captions.json")}
    coverage = read_json("artifacts/concepts/coverage.json")
    assert coverage["coco"]["base"]["counts"] == {"star": 2} and coverage["coco"]["novel"]["fraction"] == 0.0
    assert coverage["lvis"]["base"]["counts"] == {"red star": 2} and coverage["lvis"]["novel"]["found"] == 0
    assert Path("artifacts/concepts/coverage.csv").read_text().splitlines()[1:] == [
        "coco,base,star,in the pool,2,star 2",
        "coco,novel,ring,absent,0,",
        "lvis,base,red star,in the pool,2,red star 2",
        "lvis,novel,blue boat,absent,0,",
    ]
    assert (metrics["concepts"], metrics["mentions"], metrics["captions_skipped"]) == (4, 6, 0)
    assert (metrics["misspellings"], metrics["misspelled_mentions"]) == (0, 0)


def test_misspellings_are_merged_counted_and_listed(project: Path) -> None:
    captions = json.loads(Path("data/scenes/captions.json").read_text())
    captions["annotations"] = [
        {"id": i, "image_id": 0, "caption": "a skatebord" if i < 2 else "a skateboard"} for i in range(202)
    ]
    Path("data/scenes/captions.json").write_text(json.dumps(captions))
    metrics = concepts.run(_context(1))
    assert Path("artifacts/concepts/concepts.csv").read_text() == "skateboard,202\n"
    assert Path("artifacts/concepts/misspellings.csv").read_text().splitlines()[1:] == ["skatebord,skateboard,2"]
    assert (metrics["misspellings"], metrics["misspelled_mentions"]) == (1, 2)


@pytest.mark.parametrize(("worth", "workers"), [(1499, 7), (1500, 0)])
def test_shards_are_weighed_by_their_files(
    project: Path, worth: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder's own size says nothing of the shards in it; processes start by the bytes of the files."""
    shards = project / "shards"
    (shards / "sub").mkdir(parents=True)
    (shards / "00000.tar").write_bytes(b"x" * 1000)
    (shards / "sub" / "00001.tar").write_bytes(b"x" * 500)

    def counting(captions: object, parser: object, workers: int) -> None:
        raise InputError(f"{workers} workers", mend="none")

    monkeypatch.setattr(concepts, "_WORTH_PROCESSES", worth)
    monkeypatch.setattr(concepts, "captioned_scenes", lambda: (shards, None))
    monkeypatch.setattr(concepts.runtime, "workers", lambda: 7)
    monkeypatch.setattr(concepts, "count_concepts", counting)
    with pytest.raises(InputError, match=f"{workers} workers"):
        concepts.run(_context(1))


def test_the_minimum_count_cuts(project: Path) -> None:
    metrics = concepts.run(_context(2))
    assert (metrics["concepts"], metrics["vocabulary"], metrics["kept_mentions"]) == (2, 4, 4)


def test_a_pool_without_concepts_is_refused_and_nothing_is_written(project: Path) -> None:
    with pytest.raises(InputError, match=r"captions\.json, key 'concepts\.minimum_count'.*none of 4 concepts"):
        concepts.run(_context(99))
    assert not (project / "artifacts").exists()
