"""What the teacher sees of a region: the right pixels of the picture, or the paper's RoI features."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.labelling.views import RegionTeacher
from regionclip.models.region_crops import crop_regions, square_boxes
from regionclip.models.region_encoder import RegionEncoder


def test_square_has_the_longer_side_times_the_context_about_the_same_centre() -> None:
    boxes = torch.tensor([[10.0, 20, 30, 30], [0, 0, 4, 8]])
    assert square_boxes(boxes, 1.0).tolist() == [[10, 15, 30, 35], [-2, 0, 6, 8]]
    assert square_boxes(boxes, 1.5).tolist() == [[5, 10, 35, 40], [-4, -2, 8, 10]]


@given(st.tuples(*[st.floats(0, 100)] * 2), st.tuples(*[st.floats(1, 50)] * 2), st.floats(1, 3))
def test_square_is_square_and_holds_the_box(corner: tuple, size: tuple, context: float) -> None:
    box = torch.tensor([[*corner, corner[0] + size[0], corner[1] + size[1]]], dtype=torch.float64)
    (square,) = square_boxes(box, context)
    assert float(square[2] - square[0]) == pytest.approx(float(square[3] - square[1]))
    assert float(square[2] - square[0]) == pytest.approx(max(size) * context)
    assert (square[:2] <= box[0, :2] + 1e-9).all() and (square[2:] >= box[0, 2:] - 1e-9).all()


def test_crop_of_whole_pixels_is_the_picture_itself() -> None:
    """A crop at the picture's own scale; each of its pixels is the mean of four points about the pixel's centre."""
    image = torch.arange(12.0).expand(3, 12, 12).clone()
    (crop,) = crop_regions(image[None], [torch.tensor([[2.0, 4, 8, 10]])], size=6, context=1.0)
    assert torch.allclose(crop, image[:, 4:10, 2:8], atol=1e-5)


def test_crop_is_resized() -> None:
    """Quarters of 4 x 4 pixels become one pixel each."""
    image = torch.tensor([[1.0, 2], [3, 4]]).repeat_interleave(4, 0).repeat_interleave(4, 1).expand(3, 8, 8)
    (crop,) = crop_regions(image[None], [torch.tensor([[0.0, 0, 8, 8]])], size=2, context=1.0)
    assert torch.allclose(crop, torch.tensor([[1.0, 2], [3, 4]]).expand(3, 2, 2))


def test_crop_holds_the_context_and_the_mean_colour_outside_the_picture() -> None:
    """A box of 4 pixels in the corner, context 3: the square is 12 wide, from -4 to 8; a third of it is outside."""
    image = torch.ones(3, 16, 16)
    (crop,) = crop_regions(image[None], [torch.tensor([[0.0, 0, 4, 4]])], size=12, context=3.0)
    assert crop[:, :3, :].eq(0).all() and crop[:, :, :3].eq(0).all()
    assert crop[:, 4:, 4:].eq(1).all()


def test_each_box_has_its_crop_in_order() -> None:
    image = torch.arange(16.0).expand(3, 16, 16).clone()
    crops = crop_regions(image[None], [torch.tensor([[8.0, 8, 12, 12], [2, 2, 6, 6]])], size=4, context=1.0)
    assert crops.shape == (2, 3, 4, 4)
    assert crops[:, 0, 0, 0].tolist() == pytest.approx([8, 2], abs=1e-4)


@pytest.fixture(scope="module")
def clip(clip_path: Path) -> ClipFolder:
    return ClipFolder.open(clip_path)


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn(3, 96, 96, generator=torch.Generator().manual_seed(1))


BOXES = torch.tensor([[8.0, 8, 40, 72], [30, 40, 90, 80]])


def test_crop_view_is_the_clip_on_crops(clip: ClipFolder, image: torch.Tensor) -> None:
    model = clip.model()
    with torch.no_grad():
        expected = model.encode_image(crop_regions(image[None], [BOXES], 64, 1.3))
    assert torch.allclose(RegionTeacher(model, "crop", 1.3)(image[None], [BOXES]), expected, atol=1e-5)


def test_roi_view_is_the_region_encoder(clip: ClipFolder, image: torch.Tensor) -> None:
    model = clip.model()
    with torch.no_grad():
        expected = RegionEncoder.from_clip(model.visual)(image[None], [BOXES])
    assert torch.allclose(RegionTeacher(model, "roi", 1.3)(image[None], [BOXES]), expected, atol=1e-5)


def test_both_views_have_the_same_weight(clip: ClipFolder, image: torch.Tensor) -> None:
    model = clip.model()
    roi, crop, both = (RegionTeacher(model, view, 1.3)(image[None], [BOXES]) for view in ("roi", "crop", "both"))
    assert torch.allclose(both, F.normalize(roi, dim=-1) + F.normalize(crop, dim=-1), atol=1e-5)
    assert not torch.allclose(F.normalize(roi, dim=-1), F.normalize(crop, dim=-1), atol=1e-3)


@pytest.mark.parametrize("view", ["roi", "crop", "both"])
def test_teacher_is_frozen(clip: ClipFolder, image: torch.Tensor, view: str) -> None:
    teacher = RegionTeacher(clip.model(), view, 1.3)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not any(module.training for module in teacher.modules())
    features = teacher(image[None], [BOXES])
    assert features.shape == (2, 32) and not features.requires_grad
