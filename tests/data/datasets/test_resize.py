"""ResizeShortSide gives a picture Detectron2's size and Pillow's pixels, and thin ones sides of 16 pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from PIL import Image

import regionclip.data.datasets.transforms  # noqa: F401  makes mmdet importable
from regionclip.data.datasets.detection import test_pipeline as steps_of_a_test
from regionclip.data.datasets.detection import train_pipeline
from regionclip.data.pictures import LEAST_SIDE, thick
from regionclip.demo_world.scenes import SceneTask, render_scene
from regionclip.demo_world.vocabulary import KINDS, Kind
from regionclip.params.stages import Detection

SIDES = st.integers(40, 3000)  # at most 1 to 75: thinner ones become thicker

WHOLE = st.integers(1, 5000)


def _step(**config: Any) -> Any:
    from mmdet.registry import TRANSFORMS

    with DefaultScope.overwrite_default_scope("mmdet"):
        return TRANSFORMS.build(dict(type="ResizeShortSide", backend="pillow") | config)


class _Picture:
    """Stands for a picture of which only the shape is read."""

    def __init__(self, height: int, width: int) -> None:
        self.shape = (height, width, 3)


@given(height=SIDES, width=SIDES, shortest=st.sampled_from([640, 672, 704, 736, 768, 800]))
def test_size_keeps_the_shape_and_the_limits(height: int, width: int, shortest: int) -> None:
    """The shorter side has its length or the longer one its limit, and the other is right to half a pixel."""
    step = _step(scale=shortest, max_size=1333)
    new_width, new_height = step._get_output_shape(_Picture(height, width), shortest)
    limited = max(height, width) * shortest > 1333 * min(height, width)
    assert max(new_height, new_width) == 1333 if limited else min(new_height, new_width) == shortest
    scale = min(shortest / min(height, width), 1333 / max(height, width))
    assert abs(new_height - height * scale) <= 0.5 + 1e-6 and abs(new_width - width * scale) <= 0.5 + 1e-6


def test_halves_are_rounded_as_detectron2_rounds_them() -> None:
    """36 x 248 at 672 / 1333 gives 193.5 less a rounding error; the stock rule goes straight to 194."""
    picture = np.zeros((36, 248, 3), np.uint8)
    stock = _step(type="Resize", scale=(1333, 672), keep_ratio=True)(dict(img=picture))
    assert stock["img"].shape[:2] == (194, 1333)
    assert _step(scale=672, max_size=1333)(dict(img=picture))["img"].shape[:2] == (193, 1333)


@pytest.mark.parametrize(("height", "width", "size"), [(48, 64, (24, 32)), (61, 40, (37, 24)), (40, 200, (20, 100))])
def test_pixels_are_pillows_bilinear_ones(height: int, width: int, size: tuple[int, int]) -> None:
    """Antialiased when shrinking; boxes will follow the picture, each side by its own factor."""
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    found = _step(scale=24, max_size=100)(dict(img=picture))
    expected = Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR)
    assert np.array_equal(found["img"], np.asarray(expected))
    assert found["scale_factor"] == pytest.approx((size[1] / width, size[0] / height))


def test_random_choice_sets_the_shortest_edge() -> None:
    """The sizes of fine-tuning go through MMDetection's own RandomChoiceResize."""
    scales = [(100, 40), (100, 50)]
    step = _step(type="RandomChoiceResize", scales=scales, resize_type="ResizeShortSide", max_size=100)
    found = {step(dict(img=np.zeros((60, 80, 3), np.uint8)))["img"].shape[:2] for _ in range(20)}
    assert found == {(40, 53), (50, 67)}


@given(width=WHOLE, height=WHOLE, short=st.integers(16, 900), longest=st.integers(900, 1400))
def test_no_side_becomes_too_short_for_a_network(width: int, height: int, short: int, longest: int) -> None:
    """By either rule; and a picture that is thick enough keeps the size that MMDetection's own rule gives it."""
    steps = [_step(type=kind, scale=short, max_size=longest) for kind in ("ResizeShortestEdge", "ResizeShortSide")]
    edges = [step._get_output_shape(_Picture(height, width), short) for step in steps]
    whole = mmcv.rescale_size((width, height), (longest, short))
    for before, after in (edges, (whole, thick(whole, short))):
        assert min(after) >= LEAST_SIDE and max(after) <= longest
        assert after == before or min(before) < LEAST_SIDE


@pytest.mark.parametrize("size", [(1800, 2), (1, 900), (3, 3)])
@pytest.mark.parametrize("jitter", [None, 256])
def test_thin_pictures_go_through_training_and_test(tmp_path: Path, size: tuple[int, int], jitter: int | None) -> None:
    """A box that spans the picture spans it still, each side scaled by its own factor."""
    Image.new("RGB", size).save(tmp_path / "a.png")
    sizes = Detection(train_short_sides=[48], test_short_side=48, max_size=96, test_batch=1, test_proposals=1)
    with DefaultScope.overwrite_default_scope("mmdet"):
        for steps in (train_pipeline(sizes, None, large_scale_jitter=jitter), steps_of_a_test(sizes, None)):
            box = {"bbox": [0, 0, *size], "bbox_label": 0, "ignore_flag": 0}
            record = {"img_path": str(tmp_path / "a.png"), "img_id": 1, "instances": [box]}
            found = Compose(steps)(record)
            assert min(found["inputs"].shape[1:]) >= LEAST_SIDE
            height, width = found["inputs"].shape[1:]
            if not jitter:
                boxes = found["data_samples"].gt_instances.bboxes.numpy()
                np.testing.assert_allclose(boxes, [[0, 0, width, height]], rtol=1e-4)


def test_the_large_jitter_gives_the_pixels_that_mmdetections_resize_gives() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (61, 40, 3), dtype=np.uint8)
    stock = _step(type="Resize", scale=(50, 50), keep_ratio=True)(dict(img=picture))
    own = _step(type="ResizeWithin", scale=(50, 50))(dict(img=picture))
    assert own["scale_factor"] == stock["scale_factor"] and np.array_equal(own["img"], stock["img"])


def test_the_demos_pictures_are_read_as_mmcv_reads_them(tmp_path: Path) -> None:
    """To the bit: so the demo's numbers stay what they were with MMCV's loader."""
    for index, kind in enumerate(KINDS[:8]):
        (tmp_path / "a.jpg").write_bytes(_scene(index, kind))
        found = [
            _load(step, tmp_path / "a.jpg")
            for step in ({"type": "LoadPicture"}, {"type": "LoadImageFromFile", "imdecode_backend": "pillow"})
        ]
        assert np.array_equal(found[0]["img"], found[1]["img"])
        assert all(found[0][key] == found[1][key] for key in ("img_shape", "ori_shape"))


def _load(step: dict[str, Any], file: Path) -> dict[str, Any]:
    from mmdet.registry import TRANSFORMS

    with DefaultScope.overwrite_default_scope("mmdet"):
        return TRANSFORMS.build(step)({"img_path": str(file)})


def _scene(index: int, kind: Kind) -> bytes:
    return render_scene(SceneTask(5, "test", index, (kind,), 192, (28, 64), (0, 3), 92)).jpeg
