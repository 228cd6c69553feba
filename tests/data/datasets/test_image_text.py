"""The pretraining data set: images, boxes and labels move together, and a position alone decides what it gives."""

from __future__ import annotations

import io
import json
import logging
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.dataset import pseudo_collate
from PIL import Image
from torch.utils.data import DataLoader

from regionclip.data.datasets.image_text import ImageTextRegionDataset
from regionclip.data.datasets.stream import ResumableSampler
from regionclip.data.rejects import Rejects
from regionclip.errors import InputError
from regionclip.regions.store_writer import RegionStoreWriter

IDS, SIZE = (3, 7, 8, 20), (60, 40)  # width, height
WIDTH = 4


def _features(caption: str) -> np.ndarray:
    """What stands for a text encoder."""
    return np.random.default_rng(list(caption.encode())).normal(size=WIDTH).astype(np.float32)


def _captions(image_id: int) -> dict[str, np.ndarray]:
    return {f"scene {image_id}, text {j}": _features(f"scene {image_id}, text {j}") for j in (0, 1)}


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Four black PNG images of 60 x 40, each with two white boxes, which are the store's regions."""
    (tmp_path / "images").mkdir()
    images, captions = [], []
    with RegionStoreWriter(tmp_path / "store", {"view": "crop"}, k=2, caption_width=WIDTH) as writer:
        for i, image_id in enumerate(IDS):
            boxes = np.array([[2, 4, 12 + i, 14], [30, 20, 50, 30 + i]])
            pixels = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
            for x1, y1, x2, y2 in boxes:
                pixels[y1:y2, x1:x2] = 255
            Image.fromarray(pixels).save(tmp_path / "images" / f"{image_id}.png")
            images.append({"id": image_id, "file_name": f"{image_id}.png", "width": 60, "height": 40})
            captions += [
                {"id": 2 * i + j, "image_id": image_id, "caption": f"scene {image_id}, text {j}"} for j in (0, 1)
            ]
            labels = np.array([[i, 9], [5, 6]]), np.array([[0.75, 0.25], [0.5, 0.25]])
            writer.add(image_id, boxes, np.zeros(2), *labels, _captions(image_id))
    (tmp_path / "captions.json").write_text(json.dumps({"images": images, "annotations": captions}))
    return tmp_path


def dataset(scenes: Path, **options) -> ImageTextRegionDataset:
    """The data set; regions 2, one scale, seed 0 unless given."""
    options = {"regions_per_image": 2, "scales": [80], "max_size": 200, "seed": 0} | options
    return ImageTextRegionDataset(scenes / "captions.json", scenes / "store", **options)


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("scales", [[40], [80], [20]])
def test_boxes_follow_the_image(scenes, flip, scales):
    """At any scale and flip the white pixels are those in the boxes, and each box has its labels."""
    data = dataset(scenes, flip_prob=flip, scales=scales)
    record = data[0]
    sample, inputs = record["data_samples"], record["inputs"]
    i, ratio = IDS.index(sample.img_id), scales[0] / 40
    assert inputs.dtype == torch.uint8 and inputs.shape == (3, scales[0], scales[0] * 1.5)
    assert (sample.ori_shape, sample.img_shape, sample.scale_factor) == (
        (40, 60),
        tuple(inputs.shape[1:]),
        (ratio, ratio),
    )
    assert sample.flip is bool(flip)
    first = np.array([2, 4, 12 + i, 14]) * ratio
    if flip:
        first[[0, 2]] = inputs.shape[2] - first[[2, 0]]
    assert sample.proposals.bboxes[0].tolist() == first.tolist()
    assert sample.proposals.concept_index.tolist() == [[i, 9], [5, 6]]
    assert sample.proposals.concept_prob.tolist() == [[0.75, 0.25], [0.5, 0.25]]
    assert (sample.proposals.concept_index.dtype, sample.proposals.concept_prob.dtype) == (torch.int64, torch.float32)
    inside = torch.zeros(inputs.shape[1:], dtype=torch.bool)
    for x1, y1, x2, y2 in sample.proposals.bboxes.round().int().tolist():
        inside[y1:y2, x1:x2] = True
    # Antialiasing blurs at most one pixel on either side of an edge.
    assert ((inputs[0] > 127) != inside).float().mean() < 0.06 and inputs[0][inside].float().mean() > 220


def test_long_side_is_limited(scenes):
    """Short side 80 would make the long side 120; limited to 100 the image is 100 x 67 (66.67 rounded half up)."""
    assert dataset(scenes, max_size=100)[0]["inputs"].shape == (3, 67, 100)


def test_caption_is_one_of_the_images(scenes):
    """Features are those of one of the image's own captions; both captions occur."""
    data = dataset(scenes)
    texts = set()
    for position in range(24):
        sample = data[position]["data_samples"]
        wanted = [features.tolist() for features in _captions(sample.img_id).values()]
        got = sample.caption_features.tolist()
        assert sample.caption_features.dtype == torch.float32 and got in wanted
        texts.add(got == wanted[1])
    assert texts == {True, False}


def test_captions_that_the_store_was_not_made_from_are_refused(scenes):
    """One that was changed since, by name; and a store without any."""
    content = json.loads((scenes / "captions.json").read_text())
    for entry in content["annotations"]:
        entry["caption"] += "!"
    (scenes / "captions.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"'scene \d+, text \d!' is not the one") as caught:
        dataset(scenes)[0]
    assert caught.value.record in map(str, IDS)
    with RegionStoreWriter(scenes / "store", {}, k=1) as writer:
        writer.add(3, np.zeros((0, 4)), np.zeros(0), np.zeros((0, 1), int), np.zeros((0, 1)))
    with pytest.raises(InputError, match="no features of captions"):
        dataset(scenes)


def test_regions_are_a_random_subset(scenes):
    """With one region wanted of two, each of them is drawn at times."""
    data = dataset(scenes, regions_per_image=1)
    drawn = {data[position]["data_samples"].proposals.concept_index[0, 1].item() for position in range(16)}
    assert drawn == {9, 6}


def _values(batch: dict) -> list:
    pairs = zip(batch["data_samples"], batch["inputs"], strict=True)
    return [(s.img_id, s.flip, s.caption_features.tolist(), s.proposals.bboxes.tolist(), i.tolist()) for s, i in pairs]


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_stream_equals_the_uninterrupted_one(scenes, workers):
    """Batches 3 and 4 of a stream are the first two of a stream that starts there, whatever the number of workers."""
    options = {"scales": [20, 40], "regions_per_image": 1}
    data = dataset(scenes, **options)
    whole = iter(DataLoader(data, batch_size=3, sampler=ResumableSampler(data), collate_fn=pseudo_collate))
    wanted = [_values(next(whole)) for _ in range(5)][3:]
    data = dataset(scenes, **options)
    sampler = ResumableSampler(data, start=9)
    rest = iter(DataLoader(data, batch_size=3, sampler=sampler, num_workers=workers, collate_fn=pseudo_collate))
    assert [_values(next(rest)) for _ in range(2)] == wanted
    other = dataset(scenes, seed=1, **options)
    assert _values(pseudo_collate([other[position] for position in (9, 10, 11)])) != wanted[0]


def test_mmdets_preprocessor_takes_the_batch(scenes):
    """MMDetection's preprocessor pads and normalises the batch, and leaves proposals and features in the samples."""
    data = dataset(scenes, scales=[20, 40])
    batch = pseudo_collate([data[position] for position in range(4)])
    preprocessor = MODELS.build({"type": "mmdet.DetDataPreprocessor", "mean": [0.0] * 3, "std": [255.0] * 3})
    made = preprocessor(batch, training=True)
    assert made["inputs"].shape == (4, 3, 40, 60) and made["inputs"].max() == 1
    assert all(
        len(sample.proposals.bboxes) == 2 and sample.caption_features.shape == (WIDTH,)
        for sample in made["data_samples"]
    )


def test_images_that_the_store_lacks_are_reported(scenes, caplog):
    """They are left out with one warning that counts them; when the store holds none, that is an error."""
    content = json.loads((scenes / "captions.json").read_text())
    content["images"] += [{"id": 99, "file_name": "99.png"}]
    content["annotations"] += [{"id": 99, "image_id": 99, "caption": "x"}, {"id": 100, "image_id": 99, "caption": " "}]
    (scenes / "captions.json").write_text(json.dumps(content))
    with caplog.at_level(logging.WARNING):
        assert len(dataset(scenes)) == 4
    assert "1 of 5 images not in" in caplog.text and "1 x empty caption" in caplog.text
    with RegionStoreWriter(scenes / "store", {}, k=1, caption_width=WIDTH) as writer:
        writer.add(1, np.zeros((0, 4)), np.zeros(0), np.zeros((0, 1), int), np.zeros((0, 1)), {})
    with pytest.raises(InputError, match="none of the 5 images"):
        dataset(scenes)


def test_stores_that_do_not_fit_are_refused(scenes):
    """A store without labels, and one with ids of another kind, are refused by name."""
    with RegionStoreWriter(scenes / "store", {}) as writer:
        writer.add(3, np.zeros((0, 4)), np.zeros(0))
    with pytest.raises(InputError, match="without labels"):
        dataset(scenes)
    with RegionStoreWriter(scenes / "store", {}, k=1, caption_width=WIDTH) as writer:
        writer.add(1, np.zeros((0, 4)), np.zeros(0), np.zeros((0, 1), int), np.zeros((0, 1)), {})
    (scenes / "captions.jsonl").write_text('{"image": "a.png", "caption": "x"}\n')
    with pytest.raises(InputError, match="no integer") as caught:
        ImageTextRegionDataset(scenes / "captions.jsonl", scenes / "store", 1, [40], 80, 0)
    assert caught.value.record == "a.png"


def test_image_without_regions_and_truncated_image(scenes):
    """An image without regions gives empty proposals; a truncated one is named."""
    with RegionStoreWriter(scenes / "store", {}, k=2, caption_width=WIDTH) as writer:
        for image_id in IDS:
            labels = np.zeros((0, 2), int), np.zeros((0, 2))
            writer.add(image_id, np.zeros((0, 4)), np.zeros(0), *labels, _captions(image_id))
    data = dataset(scenes)
    proposals = data[0]["data_samples"].proposals
    assert proposals.bboxes.shape == (0, 4) and proposals.concept_index.shape == (0, 2)
    for file in (scenes / "images").iterdir():
        file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(InputError, match="cannot be decoded|not an image") as caught:
        data[0]
    assert Path(caught.value.file).parent.name == "images"


def test_thin_images_are_stretched_and_their_regions_with_them(scenes):
    """To 16 pixels, which the student halves four times."""
    with RegionStoreWriter(scenes / "store", {}, k=1, caption_width=WIDTH) as writer:
        for image_id in IDS:
            labels = np.zeros((1, 1), int), np.ones((1, 1))
            writer.add(image_id, np.array([[0.0, 0, 900, 1]]), np.zeros(1), *labels, _captions(image_id))
    for file in (scenes / "images").iterdir():
        Image.new("RGB", (900, 1)).save(file, "PNG")
    record = dataset(scenes)[0]
    height, width = record["inputs"].shape[1:]
    assert height == 16 and width > 16
    np.testing.assert_allclose(record["data_samples"].proposals.bboxes.numpy(), [[0, 0, width, height]], rtol=1e-4)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Three shards of seven PNG images each, image i of i + 8 pixels a side, and their store; keys as img2dataset's."""
    (tmp_path / "set").mkdir()
    with RegionStoreWriter(tmp_path / "store", {}, k=1, shard_rows=5, caption_width=WIDTH) as writer:
        for shard in range(3):
            with tarfile.open(tmp_path / f"set/{shard:05d}.tar", "w") as tar:
                for i in range(7 * shard, 7 * shard + 7):
                    data = io.BytesIO()
                    Image.new("RGB", (i + 8, i + 8)).save(data, "PNG")
                    for suffix, part in (("png", data.getvalue()), ("txt", f"image {i}".encode())):
                        about = tarfile.TarInfo(f"{i:09d}.{suffix}")
                        about.size = len(part)
                        tar.addfile(about, io.BytesIO(part))
                    labels = np.array([[i]]), np.array([[0.5]])
                    writer.add(i, [[0, 0, i + 8, i + 8]], [0.0], *labels, {f"image {i}": _features(f"image {i}")})
    return tmp_path


def _streamed(shards: Path, rank: int, start: int, count: int, workers: int) -> list[int]:
    """Ids of ``count`` images that a process of two draws from the shards, each checked against its image's size."""
    data = ImageTextRegionDataset(shards / "set", shards / "store", 1, [32], 64, seed=3)
    sampler = ResumableSampler(data, start=start)
    sampler.rank, sampler.world_size = rank, 2
    loader = DataLoader(data, batch_size=3, sampler=sampler, num_workers=workers, collate_fn=pseudo_collate)
    batches = iter(loader)
    samples = [sample for _ in range(count // 3) for sample in next(batches)["data_samples"]]
    for sample in samples:
        assert sample.ori_shape == (sample.img_id + 8,) * 2 and sample.proposals.concept_index.item() == sample.img_id
        assert sample.caption_features.tolist() == _features(f"image {sample.img_id}").tolist()
    return [sample.img_id for sample in samples]


@pytest.mark.parametrize("workers", [0, 2])
def test_shards_are_streamed_by_processes_and_workers(shards, workers):
    """Two processes share each epoch of 21 images from shards, shuffled across shards, and a stream resumes inside."""
    whole = [_streamed(shards, rank, 0, 21, workers) for rank in (0, 1)]
    order = [image_id for pair in zip(*whole, strict=True) for image_id in pair]
    assert sorted(order[:21]) == sorted(order[21:]) == list(range(21))
    assert order[:21] != order[21:] and sorted(order[:7]) != list(range(7))
    assert [_streamed(shards, rank, 12, 9, workers) for rank in (0, 1)] == [ids[6:15] for ids in whole]


def test_no_image_of_a_shard_is_held(shards):
    """The data set knows places only: once the shards are gone, so are the images."""
    data = ImageTextRegionDataset(shards / "set", shards / "store", 1, [32], 64, seed=3)
    assert data[0]["inputs"].shape == (3, 32, 32)
    for shard in (shards / "set").iterdir():
        shard.unlink()
    with pytest.raises(InputError, match=r"0000\d\.tar/0000000\d\d: the image does not exist"):
        data[0]


def test_bad_records_are_set_aside(shards):
    """A shard that is cut gives the images before the cut, when there is a place for what is bad."""
    last = shards / "set/00002.tar"
    last.write_bytes(last.read_bytes()[:5000])
    options = {"regions_per_image": 1, "scales": [32], "max_size": 64, "seed": 3}
    with pytest.raises(InputError, match="cannot be read"):
        ImageTextRegionDataset(shards / "set", shards / "store", **options)
    with Rejects(shards / "set_rejected.jsonl", 0.5) as rejects:
        data = ImageTextRegionDataset(shards / "set", shards / "store", **options, rejects=rejects)
    assert 14 < len(data) < 21 and len(rejects) in (1, 2)
