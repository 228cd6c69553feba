"""What the check of params.yaml takes can be built, at the bounds too; what it refuses, it refuses by the key."""

from __future__ import annotations

import copy
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmcv.transforms import Compose
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from open_clip import CLIP

from regionclip.checkpoints.clip_folder import ClipFolder, build_clip
from regionclip.data.datasets.detection import test_resize as resize_of_tests
from regionclip.data.datasets.detection import train_pipeline
from regionclip.data.datasets.stream import ShuffledStream
from regionclip.demo_world import plans
from regionclip.demo_world.pairs import PairTask, render_pair
from regionclip.demo_world.scenes import SceneTask, render_scene
from regionclip.demo_world.vocabulary import KINDS
from regionclip.engine.history_hook import HistoryHook
from regionclip.engine.training import train
from regionclip.errors import InputError
from regionclip.models.assembly import build_detector, build_pretrainer, build_rpn
from regionclip.models.detector_settings import detection_settings, finetune_settings, zero_shot_settings
from regionclip.models.region_crops import crop_regions
from regionclip.models.region_encoder import RegionEncoder
from regionclip.params import Params, check_params
from regionclip.params.data import LVIS_CLASSES, DemoWorld
from regionclip.params.stages import DatasetFinetune, Schedule
from regionclip.regions.matching import ConceptMatcher
from tests.conftest import profile_values

TINY = profile_values("tiny")
SCHEMA = Params.model_json_schema()
FAR = [-1, 0, 1, 2, 2**31, 2**32 - 1, 2**32, 2**63, 2**64, 10**30]
FLOATS = [0.0, -0.0, 5e-324, 1e-300, 1e-12, 0.5, 1.0, 1e38, 1e308, float("inf"), float("nan"), -1.0]
MEMORY = 6 * 2**30  # bytes of address space beyond what the process has


def _schema(part: dict[str, Any]) -> dict[str, Any]:
    return SCHEMA["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part


def leaves(part: dict[str, Any], value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each key of the tiny params that is no section, with its schema."""
    part = _schema(part)
    if isinstance(value, dict):
        options = [_schema(one) for one in part.get("anyOf", [part])]
        properties = next((one["properties"] for one in options if "properties" in one), {})
        for name, part_of in properties.items():
            if name in value:
                yield from leaves(part_of, value[name], (*path, name))
    else:
        yield path, part


def numbers(part: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Draw numbers inside the bounds, on them, beside them and far away."""
    low, high = part.get("minimum", 0), part.get("maximum", part.get("exclusiveMaximum", 2**32))
    if part["type"] == "number":
        return st.one_of(st.floats(low, high), st.sampled_from([low, high, 2 * high + 1, low - 1, *FLOATS]))
    edges = st.sampled_from([low, high, high - 1, low - 1, high + 1, *FAR])
    return st.one_of(st.integers(low, min(high, low + 300)), edges)


def drawn(part: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Draw values for a key by its schema."""
    part = _schema(part)
    if options := part.get("anyOf") or part.get("oneOf"):
        return st.one_of([drawn(option) for option in options])
    if "enum" in part or "const" in part:
        return st.sampled_from([*part.get("enum", [part.get("const")]), "other"])
    if part["type"] in ("integer", "number"):
        return numbers(part)
    if part["type"] == "array" and "prefixItems" in part:
        return st.lists(drawn(part["prefixItems"][0]), min_size=2, max_size=2)
    if part["type"] == "array":
        return st.lists(drawn(part["items"]), max_size=5)
    return {"boolean": st.booleans(), "null": st.none(), "string": st.text(max_size=8)}.get(part["type"], st.none())


KEYS = [(path, drawn(part)) for path, part in leaves(SCHEMA, TINY) if path[-1] != "weights"]
TRAINED = {"teacher", "rpn", "pretrain", "finetune", "seed"}


@st.composite
def changed(draw: st.DrawFn) -> tuple[dict[str, Any], set[str]]:
    """Draw the tiny params with one to three other values; give the sections that were changed too."""
    values, chosen = copy.deepcopy(TINY), draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=3))
    for path, strategy in chosen:
        section = values
        for key in path[:-1]:
            section = section[key]
        section[path[-1]] = draw(strategy)
    return values, {path[0] for path, _ in chosen}


class Line(BaseModel):
    """The smallest model."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, inputs: list[torch.Tensor], mode: str) -> dict[str, torch.Tensor]:
        return {"loss": (self.weight * torch.stack(inputs)).sum()}


class Points(torch.utils.data.Dataset):
    """An endless stream."""

    def __len__(self) -> int:
        return 100

    def __getitem__(self, position: int) -> dict[str, torch.Tensor]:
        return {"inputs": torch.ones(1)}


def _train(schedule: Schedule, seed: int, folder: Path) -> None:
    short = schedule.model_copy(update={"iterations": 2, "batch_size": min(schedule.batch_size, 2)})
    train(
        Line(),
        Points(),
        short,
        title="t",
        seed=seed,
        scratch=folder / str(len(list(folder.iterdir()))),
        hooks=[HistoryHook(folder / "history.jsonl")],
    )


def _demo(demo: DemoWorld, seed: int) -> None:
    objects = demo.objects_per_scene
    least = -(-LVIS_CLASSES // objects[1])
    for count in {min(getattr(demo, f"lvis_{split}"), least + 40) for split in ("train", "dev", "val")}:
        tail = plans.long_tail_plan(seed, "lvis/train", count, objects, demo.lvis_frequency_factor)
        for plan in (tail, plans.flat_plan(seed, "lvis/val", count, objects)):
            assert len(plan) == count and {kind for scene in plan for kind in scene} == set(KINDS)
    (kinds,) = plans.even_plan(seed, "scenes", 1, objects)
    look = (demo.scene_size, demo.object_size, demo.distractors, demo.jpeg_quality)
    assert render_scene(SceneTask(seed, "scenes", 0, kinds, *look)).jpeg
    assert render_pair(PairTask(seed, "pairs/train", 0, demo.pair_size, demo.jpeg_quality)).jpeg


def _teacher(architecture: dict[str, Any]) -> None:
    """On the meta device: shapes, but no memory."""
    with torch.device("meta"):
        clip, size = build_clip(architecture), architecture["vision_cfg"]["image_size"]
        images = clip.encode_image(torch.zeros(2, 3, size, size))
        texts = CLIP.encode_text(clip, torch.zeros(2, architecture["text_cfg"]["context_length"], dtype=torch.long))
        regions = RegionEncoder.from_clip(clip.visual)
    assert images.shape == texts.shape == (2, architecture["embed_dim"])
    assert sum(parameter.numel() for parameter in clip.parameters()) < 8e9
    assert regions


def _detectors(params: Params, clip: ClipFolder, changed_sections: set[str]) -> None:
    if changed_sections & {"rpn", "pseudo_labels"}:
        build_rpn(clip, params.rpn, nms_iou=params.pseudo_labels.nms_iou, proposals=params.pseudo_labels.proposals)
    if "pretrain" in changed_sections:
        build_pretrainer(clip, params.pretrain)
    if changed_sections & {"finetune", "zero_shot"}:
        target: DatasetFinetune = [*params.finetune.sets.values()][-1]
        finetune = finetune_settings(params.finetune, target, 3) | detection_settings(target)
        build_detector(clip, finetune, params.finetune.frozen_stages, masks=target.masks)
        build_detector(clip, zero_shot_settings(params.zero_shot, 3, 9, 0.1, use_objectness=True))


def _regions(params: Params) -> None:
    labels = params.pseudo_labels
    for box in ([0.0, 0, 8, 8], [-5, 3, 900, 4], [0, 0, 4096, 4096]):
        assert crop_regions(torch.ones(1, 3, 32, 32), [torch.tensor([box])], 32, labels.crop_context).isfinite().all()
    bank = torch.nn.functional.normalize(torch.randn(5, 8), dim=1)
    assert ConceptMatcher(bank, labels.temperature)(bank, labels.top_k)[1].isfinite().all()


def _pictures(params: Params) -> None:
    with DefaultScope.overwrite_default_scope("mmdet"):
        Compose(train_pipeline(params.detection, None, large_scale_jitter=params.detection.max_size))
        Compose(train_pipeline(params.detection, None))
        resize = Compose([resize_of_tests(params.detection)])
    picture = resize({"img": np.zeros((40, 60, 3), np.uint8)})["img"]
    assert max(picture.shape) <= params.detection.max_size


@pytest.fixture
def clip(clip_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClipFolder]:
    """A tiny CLIP, and a limit of memory: a build that wants more fails here instead of taking the machine down."""
    monkeypatch.setenv("REGIONCLIP_WORKERS", "0")
    monkeypatch.setenv("REGIONCLIP_DEVICE", "cpu")
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    yield ClipFolder.open(clip_path)
    resource.setrlimit(resource.RLIMIT_AS, before)


def _build(params: Params, clip: ClipFolder, sections: set[str], folder: Path, trained: list[Schedule] = []) -> None:  # noqa: B006
    torch.manual_seed(params.seed)
    ShuffledStream(10, params.seed).locate(7)
    if sections & {"data", "seed"}:
        _demo(params.data.demo, params.seed)
    if "teacher" in sections and params.teacher.architecture:
        _teacher(params.teacher.architecture.open_clip())
    schedules = [params.rpn.schedule, params.pretrain.schedule, params.teacher.schedule]
    schedules += [target.schedule for target in params.finetune.sets.values()]
    for schedule in schedules:
        if schedule and sections & TRAINED and schedule not in trained:
            _train(schedule, params.seed, folder)
            trained.append(schedule)
    _detectors(params, clip, sections)
    _regions(params)
    _pictures(params)
    assert check_params(params.model_dump(mode="json"), "again") == params


def _try(values: dict[str, Any], sections: set[str], clip: ClipFolder, folder: Path) -> None:
    try:
        params = check_params(values, "params.yaml")
    except InputError as error:
        assert error.key and error.key.split(".")[0] in SCHEMA["properties"] and error.mend
        return
    _build(params, clip, sections, folder)


@settings(max_examples=40, suppress_health_check=list(HealthCheck), derandomize=True)
@given(changed())
def test_what_is_taken_can_be_built(clip: ClipFolder, tmp_path: Path, drawn_: tuple[dict, set[str]]) -> None:
    _try(*drawn_, clip, tmp_path)


@pytest.mark.slow
@settings(max_examples=500, suppress_health_check=list(HealthCheck))
@given(changed())
def test_what_is_taken_can_be_built_often(clip: ClipFolder, tmp_path: Path, drawn_: tuple[dict, set[str]]) -> None:
    _try(*drawn_, clip, tmp_path)


def test_the_demo_has_as_many_classes_as_the_params_say() -> None:
    assert len(KINDS) == LVIS_CLASSES
