"""ImageTextRegionDataset: captioned images with their stored regions and pseudo labels, for region-text pretraining."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import mmcv
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from mmdet.registry import DATASETS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from PIL import Image
from torch.utils.data import Dataset

from regionclip.data.captions import CaptionedImages, decode_image, open_captioned_images
from regionclip.data.captions.table import INTEGER
from regionclip.data.datasets.stream import ShuffledStream
from regionclip.data.pictures import ImageSpan, thick
from regionclip.data.rejects import Rejects
from regionclip.errors import InputError, logger
from regionclip.regions.sampling import clip_boxes, flip_boxes, sample_regions, scale_boxes
from regionclip.regions.store import CAPTIONS, MEND, Regions, RegionStore

_log = logger(__name__)
_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@DATASETS.register_module()
class ImageTextRegionDataset(Dataset):
    """Captioned images joined with a region store, read by stream positions (see `ShuffledStream`).

    Every random choice about an image (scale, flip, caption, subset of regions) comes from the generator of its
    position. Captions are not adapted to the flip, as in the official code.

    Args:
        captions: COCO captions JSON, JSON Lines, WebDataset shards or official TSV; see `open_captioned_images`. Images
            are read when they are wanted, from wherever they lie in a shard.
        store: Folder of the region store, with k > 0 and captions; its ids are the keys of the captioned images.
        regions_per_image: Size of the random subset of an image's regions.
        scales: Short sides in pixels, one of which is chosen for each image.
        max_size: Longest side in pixels.
        seed: Seed of the order and of all choices.
        flip_prob: Probability of a horizontal flip.
        images: Folder that file names start from; see `open_captioned_images`.
        interpolation: Pillow's filter; the official pretraining uses bicubic.
        rejects: Takes the bad records of the captions; None: they are errors.

    Raises:
        InputError: The store has no labels or captions, or holds none of the images; the captions are broken.
    """

    def __init__(
        self,
        captions: str | Path,
        store: str | Path,
        regions_per_image: int,
        scales: Sequence[int],
        max_size: int,
        seed: int,
        flip_prob: float = 0.5,
        images: str | Path | None = None,
        interpolation: Literal["bilinear", "bicubic"] = "bilinear",
        rejects: Rejects | None = None,
    ) -> None:
        self.store = RegionStore.open(store)
        if not self.store.k:
            raise InputError("the store has regions without labels", file=store, mend="give the store of pseudo labels")
        if CAPTIONS[0] not in self.store.schema.names:
            raise InputError("the store has no features of captions", file=store, mend=MEND)
        self.regions_per_image, self.scales, self.max_size = regions_per_image, tuple(scales), max_size
        self.flip_prob, self.interpolation = flip_prob, _RESAMPLING[interpolation]
        source = open_captioned_images(captions, images, rejects)
        self.table = source.table()
        self.rows = self._join(source)
        self.stream = ShuffledStream(len(self.rows), seed)

    def _join(self, source: CaptionedImages) -> np.ndarray:
        """Return the rows that the store holds; say how many it lacks and what the source left out."""
        ids = self.table.ids if self.store.id_type is int else self.table.keys
        if self.store.id_type is int and pa.types.is_string(ids.type):
            problem = f"the image's key is no integer, as the ids of {self.store.path} are"
            key = next(key for key in ids.to_pylist() if not re.match(INTEGER, key))
            raise InputError(problem, file=source.path, record=key, mend="make the store from these images")
        held = pc.is_in(ids, value_set=self.store.ids).to_numpy(zero_copy_only=False)
        rows, lacking = np.flatnonzero(held), np.flatnonzero(~held)
        if not len(rows):
            problem = f"the store {self.store.path} holds none of the {len(lacking)} images"
            raise InputError(problem, file=source.path, mend="make the store from these images")
        notes = [f"{count} x {reason}" for reason, count in sorted(source.skipped.items())]
        if len(lacking):
            first = ids[int(lacking[0])].as_py()
            notes.append(f"{len(lacking)} of {len(ids)} images not in {self.store.path}, the first {first!r}")
        if notes:
            _log.warning("%s: left out %s", source.path, "; ".join(notes))
        return rows

    @property
    def metainfo(self) -> dict[str, Any]:
        """What the store was made from."""
        return dict(self.store.metadata)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> dict[str, Any]:
        """Return one image.

        Returns:
            ``inputs``: uint8 (3, H, W), RGB. ``data_samples``: a DetDataSample with ``proposals`` (bboxes float32
            (n, 4) in pixels of ``inputs``, concept_index int64 (n, k), concept_prob float32 (n, k)) and
            ``caption_features`` float32 (D,); its metainfo has img_id, img_path, ori_shape, img_shape (h, w),
            scale_factor (w, h) and flip.

        Raises:
            InputError: The image cannot be read, or the store was made from another caption.
        """
        epoch, index = self.stream.locate(position)
        rng = self.stream.rng(epoch, index)
        record = self.table[int(self.rows[index])]
        image_id = self.store.id_type(record.key)
        short, flip = int(rng.choice(self.scales)), bool(rng.random() < self.flip_prob)
        caption = record.captions[rng.integers(len(record.captions))]
        regions = self.store[image_id]
        if (features := regions.features_of(caption)) is None:
            problem = f"the caption '{caption:.40}' is not the one that the store was made from"
            raise InputError(problem, file=self.store.path, record=repr(image_id), mend=MEND)
        chosen = sample_regions(len(regions.boxes), self.regions_per_image, rng)

        inside = isinstance(record.image, ImageSpan)
        path = f"{record.image.file}/{record.key}" if inside else str(record.image)
        image = decode_image(record.image, path)
        # The short side is ``short`` unless the long one would exceed ``max_size``; rounded half up.
        wanted = thick(mmcv.rescale_size(image.size, (short, self.max_size)), short)
        size, resized = image.size, np.asarray(image.resize(wanted, self.interpolation))
        scale = resized.shape[1] / size[0], resized.shape[0] / size[1]
        sample = DetDataSample(
            metainfo={
                "img_id": image_id, "img_path": path, "ori_shape": size[::-1],
                "img_shape": resized.shape[:2], "scale_factor": scale, "flip": flip,
            }
        )  # fmt: skip
        sample.proposals = _proposals(regions, chosen, resized.shape[:2], scale, flip)
        sample.caption_features = torch.tensor(features)
        pixels = np.ascontiguousarray((resized[:, ::-1] if flip else resized).transpose(2, 0, 1))
        return {"inputs": torch.from_numpy(pixels), "data_samples": sample}


def _proposals(
    regions: Regions, chosen: np.ndarray, shape: tuple[int, int], scale: tuple[float, float], flip: bool
) -> InstanceData:
    """Take the chosen regions to the pixels of an image of ``shape`` (h, w)."""
    boxes = clip_boxes(scale_boxes(regions.boxes[chosen], scale), *shape)
    return InstanceData(
        bboxes=torch.from_numpy(flip_boxes(boxes, shape[1]) if flip else boxes),
        concept_index=torch.from_numpy(regions.concept_index[chosen].astype(np.int64)),
        concept_prob=torch.from_numpy(regions.concept_prob[chosen].astype(np.float32)),
    )
