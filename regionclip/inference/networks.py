"""The networks of a detector: RPN and open-vocabulary Fast R-CNN, from resized pictures to arrays."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.structures.bbox import bbox2roi
from mmengine.config import ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.data.datasets.detection import META_KEYS, test_resize
from regionclip.engine.detection import trained_detector
from regionclip.engine.prediction import inference
from regionclip.inference.files import DetectorFiles
from regionclip.inference.sources import Example, boxes_of, pixels_of
from regionclip.inference.vocabulary import Vocabularies, Vocabulary
from regionclip.labelling.proposals import trained_rpn, valid_regions
from regionclip.models.fvit_roi_head import FViTRoIHead
from regionclip.models.region_embedding_head import best_detections

_AROUND = 100  # proposals that say what else is on an example's picture

Record = dict[str, Any]
"""A resized picture in the form of MMDetection's ``PackDetInputs``."""


class Rules(NamedTuple):
    """What is looked for, and what is kept of it; None: as the params say."""

    vocabulary: Vocabulary
    thresholds: NDArray[np.float32]  # (K,)
    iou: float | None
    max_detections: int | None
    agnostic: bool
    top_k: int | None


class Found(NamedTuple):
    """Objects of one picture, the surest first, in its own pixels; see `Result`."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    masks: NDArray[np.bool_] | None


class Networks:
    """What the files of a detector hold, on a device. One thread at a time uses it; others wait."""

    def __init__(self, files: DetectorFiles, device: torch.device) -> None:
        self._device, self._lock, self._most = device, threading.RLock(), files.params.detection.test_proposals
        clip, rpn = ClipFolder.open(files.clip), files.params.rpn
        self._rpn = self._placed(trained_rpn(files.rpn, clip, rpn, nms_iou=rpn.nms_iou, proposals=rpn.proposals))
        self._model = self._placed(trained_detector(files.detector, clip, files.params.finetune, files.dataset))
        self._head = self._model.roi_head.bbox_head
        # Of the training's classes: where words lie, for example pictures to be moved there.
        self._words = normalize(self._head.fc_cls.embeddings.cpu().float(), dim=1)
        self.vocabularies = Vocabularies(clip, files.params.text_bank.templates, device, self._embed_examples)
        # Outside a Runner, MMEngine finds MMDetection's transforms only in this scope.
        with DefaultScope.overwrite_default_scope("mmdet"):
            pack = {"type": "PackDetInputs", "meta_keys": META_KEYS}
            self._pipeline = Compose([{"type": "LoadImageFromNDArray"}, test_resize(files.params.detection), pack])

    def prepare(self, pixels: NDArray[np.uint8]) -> Record:
        """Resize a picture, uint8 (H, W, 3) BGR."""
        return self._pipeline({"img": pixels})

    def search(self, records: Sequence[Record], rules: Rules) -> list[Found]:
        """Find objects on pictures that are of one size now."""
        head, least = self._model.roi_head, torch.from_numpy(rules.thresholds)
        with self._lock, inference(self._device):
            samples = self._rpn.test_step(pseudo_collate(list(records)))
            proposals = [valid_regions(sample.cpu()) for sample in samples]
            best = [(boxes[: self._most], logits[: self._most]) for boxes, logits in proposals]
            maps, metas, regions = self._maps(records, best)
            self._use(rules.vocabulary)
            raw = head.predict_bbox(maps, metas, regions, None, rescale=not head.with_mask)
            for one in raw:
                one.scores[:, :-1] *= one.scores[:, :-1] > least.to(one.scores)
            kept = [best_detections(one.bboxes, one.scores, self._test_cfg(rules)) for one in raw]
            if head.with_mask:
                kept = head.predict_mask(maps, metas, kept, rescale=True)
        return [_arrays(one) for one in kept]

    def name(self, pixels: NDArray[np.uint8], boxes: NDArray[np.float32], rules: Rules) -> Found:
        """Name the caller's boxes (n, 4), each with the likeliest name; those above its threshold stay."""
        _, probs = self.regions(pixels, boxes, rules.vocabulary)
        labels = probs.argmax(axis=1)
        scores = probs[np.arange(len(probs)), labels]
        order = np.argsort(-scores, kind="stable")
        order = order[scores[order] > rules.thresholds[labels[order]]][: rules.max_detections]
        return Found(boxes[order], scores[order], labels[order], None)

    def propose(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the RPN's proposals (n, 4) on a picture, the surest first."""
        with self._lock, inference(self._device):
            sample = self._rpn.test_step(pseudo_collate([self.prepare(pixels)]))[0].cpu()
        return valid_regions(sample)[0]

    def regions(
        self, pixels: NDArray[np.uint8], boxes: NDArray[np.float32], vocabulary: Vocabulary | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return embeddings (n, D) of regions and their probabilities (n, K) among K names."""
        width, classes = self._words.shape[1], 0 if vocabulary is None else len(vocabulary.names)
        if not len(boxes):
            return np.zeros((0, width), np.float32), np.zeros((0, classes), np.float32)
        with self._lock, inference(self._device):
            if vocabulary is not None:
                self._use(vocabulary)
            no_logits = np.zeros(len(boxes), np.float32)
            maps, _, (regions,) = self._maps([self.prepare(pixels)], [(boxes, no_logits)])
            rois = bbox2roi([regions.bboxes])
            found = self._model.roi_head._bbox_forward(maps, rois)
            if isinstance(self._model.roi_head, FViTRoIHead):
                embeddings = self._model.roi_head.frozen_embeddings(maps, rois).float()
            else:
                embeddings = self._head.embed(found["bbox_feats"]).float()
            probs = found["cls_score"].float().softmax(dim=1)[:, :classes]
        return embeddings.numpy(force=True), probs.numpy(force=True)

    def similarity(self, embeddings: NDArray[np.float32], vocabulary: Vocabulary) -> NDArray[np.float32]:
        """Return cosines (n, K) of region embeddings with names, of each the nearest meaning."""
        classifier = self._head.fc_cls
        with self._lock, inference(self._device):
            self._use(vocabulary)
            given = torch.as_tensor(embeddings, device=self._device).float()
            logits = classifier.compare(given, classifier.temperature)
        return logits[:, :-1].mul(classifier.temperature).numpy(force=True)

    def export(self, files: DetectorFiles, folder: str | Path, embeddings: Mapping[str, Tensor]) -> None:
        """Write the networks as ONNX files; see `export_onnx`."""
        from regionclip.inference.export import export_onnx

        with self._lock:
            export_onnx(files, self._rpn, self._model, folder, embeddings)

    def _maps(
        self, records: Sequence[Record], proposals: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]
    ) -> tuple[tuple[Tensor, ...], list[dict[str, Any]], list[InstanceData]]:
        """Return the detector's maps, what it knows of the pictures, and proposals in the resized pictures' pixels."""
        data = self._model.data_preprocessor(pseudo_collate(list(records)), False)
        metas, regions = [sample.metainfo for sample in data["data_samples"]], []
        for meta, (boxes, logits) in zip(metas, proposals, strict=True):
            height, width = meta["img_shape"]
            scaled = boxes * np.array([*meta["scale_factor"]] * 2, np.float32)
            scaled = np.clip(scaled, 0, np.array([width, height] * 2, np.float32))
            places, sure = (torch.from_numpy(part).to(self._device) for part in (scaled, logits))
            regions.append(InstanceData(bboxes=places, scores=sure))
        return self._model.extract_feat(data["inputs"]), metas, regions

    def _use(self, vocabulary: Vocabulary) -> None:
        self._head.fc_cls.set_vocabulary(vocabulary.embeddings, vocabulary.owners)

    def _test_cfg(self, rules: Rules) -> ConfigDict:
        cfg = copy.deepcopy(self._model.test_cfg.rcnn)
        cfg.score_thr, cfg.nms.class_agnostic = 0.0, rules.agnostic  # scores below their threshold are 0 already
        if rules.iou is not None:
            cfg.nms.iou_threshold = rules.iou
        if rules.max_detections is not None:
            cfg.max_per_img = rules.max_detections
        return cfg

    def _embed_examples(self, examples: Sequence[Example]) -> Tensor:
        """Embed objects on pictures among words: (D,).

        CLIP's pictures lie in one cone and its texts in another. So from the mean of the examples that of what else is
        on their pictures is taken away, and the rest is laid, at the length of a word's, on the mean of words.
        """
        shown, around = [], []
        for one in examples:
            pixels = pixels_of(one.picture, "example")
            shown.append(self.regions(pixels, boxes_of([one.box], "example"), None)[0])
            around.append(self.regions(pixels, self.propose(pixels)[:_AROUND], None)[0])
        pictures, others = (
            normalize(torch.from_numpy(np.concatenate(part)), dim=1).mean(dim=0) for part in (shown, around)
        )
        centre = self._words.mean(dim=0)
        apart = (self._words - centre).norm(dim=1).mean()
        return centre + normalize(pictures - others, dim=0) * (apart or 1.0)

    def _placed(self, model: BaseModel) -> BaseModel:
        return model.to(self._device, memory_format=torch.channels_last).eval()


def _arrays(found: InstanceData) -> Found:
    boxes, scores = (getattr(found, key).float().numpy(force=True) for key in ("bboxes", "scores"))
    masks = found.masks.bool().numpy(force=True) if "masks" in found else None
    return Found(boxes, scores, found.labels.numpy(force=True), masks)
