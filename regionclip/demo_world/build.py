"""Builds the demo world: draws every picture, then writes the folders of data/ as their communities write them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import cv2
from rich.progress import Progress

from regionclip.artifacts import SETS, annotations
from regionclip.demo_world import coco_files, lvis_files, plans
from regionclip.demo_world.captions import scene_caption
from regionclip.demo_world.pairs import PairTask, render_pair
from regionclip.demo_world.scenes import SceneRecord, SceneTask, render_scene
from regionclip.demo_world.seeding import generator
from regionclip.demo_world.vocabulary import Kind
from regionclip.files import atomic_dir, sha256_file, sha256_tree, write_json

if TYPE_CHECKING:
    from regionclip.params.data import DemoWorld

Plan = list[tuple[Kind, ...]]
Task, Result = TypeVar("Task"), TypeVar("Result")

_FIRST_IDS = {"train": 1, "dev": 400_001, "val": 500_001}  # image ids, unique over the splits of a set
_SHARD_SIZE = 1000


@dataclass
class _Studio:
    """Draws pictures, in several processes where there are several."""

    spec: DemoWorld
    seed: int
    map: Callable[..., Iterator[Any]]
    progress: Progress
    left_out: int = 0  # objects that found no place in their scene

    def draw(self, name: str, render: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
        """Yield the pictures of ``tasks`` in order."""
        yield from self.progress.track(self.map(render, tasks), total=len(tasks), description=name)

    def scenes(self, name: str, plan: Plan, folder: Path, first_id: int) -> list[SceneRecord]:
        """Draw the scenes of set ``name`` and write the pictures to ``folder``."""
        spec = self.spec
        look = (spec.scene_size, tuple(spec.object_size), tuple(spec.distractors), spec.jpeg_quality)
        tasks = [SceneTask(self.seed, name, i, kinds, *look) for i, kinds in enumerate(plan)]
        folder.mkdir(parents=True)
        records = []
        for image_id, record in enumerate(self.draw(name, render_scene, tasks), first_id):
            (folder / coco_files.file_name(image_id)).write_bytes(record.jpeg)
            record.jpeg = b""
            self.left_out += len(plan[len(records)]) - len(record.objects)
            records.append(record)
        return records


def build_demo_world(
    root: Path, spec: DemoWorld, seed: int, workers: int, sets: Mapping[str, str]
) -> dict[str, dict[str, int]]:
    """Write the demo world to ``root``: pairs/, scenes/, scenes_truth/ and sets/NAME/, each whole or not at all.

    Args:
        root: The folder ``data``.
        spec: Sizes of the world.
        seed: The same seed and sizes give the same bytes, with any number of workers.
        workers: Number of processes that draw.
        sets: Name -> format of its detection sets, ``coco`` or ``lvis``; each format has its own scenes.

    Returns:
        The counts of each manifest, by folder.
    """
    about = {"seed": seed} | spec.model_dump()
    with _mapper(workers) as mapper, Progress() as progress:
        parts = {"pairs": (root, _build_pairs), "scenes": (root, _build_scenes)}
        parts |= {name: (root / SETS.name, partial(_build_set, form)) for name, form in sets.items()}
        counts = {}
        for name, (parent, build) in parts.items():
            with atomic_dir(parent / name) as folder:
                counts[name] = build(_Studio(spec, seed, mapper, progress), folder, root)
                _write_manifest(folder, counts[name], about)
    return counts


@contextmanager
def _mapper(workers: int) -> Iterator[Callable[..., Iterator[Any]]]:
    threads = cv2.getNumThreads()
    if workers <= 1:
        cv2.setNumThreads(1)
        yield map
        cv2.setNumThreads(threads)
        return
    with get_context("spawn").Pool(workers, cv2.setNumThreads, (1,)) as pool:
        yield partial(pool.imap, chunksize=16)


def _build_pairs(studio: _Studio, folder: Path, _: Path) -> dict[str, int]:
    """Write WebDataset shards in the layout of img2dataset: KEY.jpg, KEY.txt, KEY.json."""
    import webdataset  # imports torch, which the processes that only draw do not need

    spec = studio.spec
    sizes = {"train": spec.pairs_train, "val": spec.pairs_val}
    for split, size in sizes.items():
        name, shards = f"pairs/{split}", folder / split
        tasks = [PairTask(studio.seed, name, i, spec.pair_size, spec.jpeg_quality) for i in range(size)]
        shards.mkdir()
        pattern = f"{str(shards).replace('%', '%%')}/%05d.tar"
        with webdataset.ShardWriter(pattern, maxcount=_SHARD_SIZE, verbose=0, encoder=False, mtime=0) as writer:
            for number, pair in enumerate(studio.draw(name, render_pair, tasks)):
                shard, place = divmod(number, _SHARD_SIZE)
                about = {"shape": pair.kind.shape, "colour": pair.kind.colour, "caption": pair.caption}
                sample = {"jpg": pair.jpeg, "txt": pair.caption.encode(), "json": json.dumps(about).encode()}
                writer.write({"__key__": f"{shard:05d}{place:04d}", **sample})
    return sizes


def _build_scenes(studio: _Studio, folder: Path, root: Path) -> dict[str, int]:
    """Write scenes with two captions each, and beside them what is true on them."""
    spec = studio.spec
    plan = plans.even_plan(studio.seed, "scenes", spec.scenes, spec.objects_per_scene)
    records = studio.scenes("scenes", plan, folder / "images", 1)
    truth = coco_files.instances(1, spec.scene_size, records, with_colour=True)
    captions = []
    for index, record in enumerate(records):
        rng = generator(studio.seed, "scenes/captions", index)
        for _ in range(2):
            text = scene_caption(rng, record.objects, record.ground)
            captions.append({"id": len(captions) + 1, "image_id": index + 1, "caption": text})
    head = {key: truth[key] for key in ("info", "licenses", "images")}
    write_json(folder / "captions.json", head | {"annotations": captions}, indent=None)
    write_json(root / "scenes_truth" / "instances.json", truth, indent=None)
    write_json(root / "scenes_truth" / "classes.json", coco_files.class_list())
    return {"images": len(records), "captions": len(captions), "objects_left_out": studio.left_out}


def _build_set(form: str, studio: _Studio, folder: Path, _: Path) -> dict[str, int]:
    """Write a detection set of COCO's or LVIS's form, the boxes of its training split of base classes only."""
    spec, counts, categories = studio.spec, {}, []
    factor = spec.lvis_frequency_factor
    for split, first in _FIRST_IDS.items():
        name = f"{form}/{split}"
        asked = (studio.seed, name, getattr(spec, f"{form}_{split}"), spec.objects_per_scene)
        if form == "coco":
            plan = plans.even_plan(*asked)
        else:
            plan = plans.long_tail_plan(*asked, factor) if split == "train" else plans.flat_plan(*asked)
        records = studio.scenes(name, plan, folder / split, first)
        if form == "coco":
            content = coco_files.instances(first, spec.scene_size, records)
        else:
            content = lvis_files.instances(studio.seed, split, first, spec.scene_size, records, factor)
            categories = categories or lvis_files.categories(content, factor)
            content["categories"] = categories
        if split == "train":
            content = (coco_files if form == "coco" else lvis_files).base_only(content)
        write_json(folder / annotations(split), content, indent=None)
        counts |= {f"{split}_{part}": len(content[part]) for part in ("images", "annotations")}
    classes = coco_files.class_list() if form == "coco" else lvis_files.class_list(categories)
    write_json(folder / "classes.json", classes)
    return counts | {"objects_left_out": studio.left_out}


def _write_manifest(folder: Path, counts: dict[str, int], about: dict[str, Any]) -> None:
    """Write counts, params of the world, SHA-256 of JSON and tar files and of picture folders."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in {".json", ".tar"})
    sums = {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}
    pictures = sorted({path.parent for path in folder.rglob("*.jpg")})
    sums |= {f"{path.relative_to(folder).as_posix()}/": sha256_tree(path) for path in pictures}
    write_json(folder / "manifest.json", {"source": "demo", "counts": counts, "generator": about, "sha256": sums})
