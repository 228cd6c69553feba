"""Detector: proposals of the trained RPN, classified among whatever names it is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from PIL import Image

from regionclip import runtime
from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.checkpoints.loading import load_strictly
from regionclip.checkpoints.mmengine_files import read
from regionclip.data.datasets.detection import META_KEYS, test_resize
from regionclip.data.pictures import Picture, to_bgr
from regionclip.engine.prediction import inference
from regionclip.errors import InputError
from regionclip.inference.files import (
    MANIFEST,
    DetectorFiles,
    Initialisation,
    read_bundle,
    workspace_files,
    write_bundle,
)
from regionclip.labelling.proposals import trained_rpn, valid_regions
from regionclip.models.assembly import build_detector
from regionclip.models.detector_settings import finetune_settings
from regionclip.text.prompts import TEMPLATE_SETS, embed_names


@dataclass(frozen=True)
class Detection:
    """An object that was found.

    Attributes:
        name: Which of the names it is.
        score: From 0 to 1 with the params' ``score_mode`` sigmoid; comparable within one detector only.
        box: x1, y1, x2, y2 in pixels of the picture that was given.
    """

    name: str
    score: float
    box: tuple[float, float, float, float]


class Detector:
    """A fine-tuned open-vocabulary detector with the RPN that proposes regions and the CLIP that embeds names.

    It gives what the stage ``evaluate`` gives for the same names, up to float noise and, where that stage pads pictures
    of several sizes to one, the features near the border. Build one with `open`.
    """

    def __init__(self, files: DetectorFiles) -> None:
        self.files = files
        clip, rpn, self._device = ClipFolder.open(files.clip), files.params.rpn, runtime.device()
        self._text, self._tokenizer = clip.model().to(self._device), clip.tokenizer()
        self._rpn = self._placed(trained_rpn(files.rpn, clip, rpn, nms_iou=rpn.nms_iou, proposals=rpn.proposals))
        self._model = self._placed(_build_detector(files, clip))
        resize = test_resize(files.params.detection)
        self._for_rpn = _pipeline([resize])
        self._for_detector = _pipeline([{"type": "ProposalBroadcaster", "transforms": [resize]}])
        self._names: tuple[str, ...] = ()

    @classmethod
    def open(
        cls, source: str | Path = ".", dataset: str | None = None, initialisation: Initialisation | None = None
    ) -> Detector:
        """Read a detector from a folder where the pipeline has run, or from a bundle.

        Args:
            source: The folder, or what `export` wrote.
            dataset: The data set that it was trained on; None: the first of the params, or that of the bundle.
            initialisation: What it was trained from: ``regionclip``, the default, or ``clip``.

        Raises:
            InputError: A file is absent, broken or changed, or the bundle holds another detector.
        """
        _expect(source, (str, Path), "source", "a path")
        if dataset is not None:
            _expect(dataset, (str,), "dataset", "the name of a data set")
        if initialisation not in (None, *(known := get_args(Initialisation))):
            problem = f"{initialisation!r:.80} is unknown"
            raise InputError(problem, key="initialisation", mend=f"give {' or '.join(known)}")
        source = Path(source)
        if not (source / MANIFEST).exists():
            return cls(workspace_files(source, dataset, initialisation or "regionclip"))
        files = read_bundle(source)
        for key, wanted in (("dataset", dataset), ("initialisation", initialisation)):
            if wanted not in (None, getattr(files, key)):
                problem = f"the bundle holds a detector of {getattr(files, key)}, not of {wanted}"
                raise InputError(problem, file=source / MANIFEST, key=key, mend="leave the argument out")
        return cls(files)

    def export(self, folder: str | Path) -> None:
        """Write a bundle: CLIP folder, checkpoints, params, and a manifest with the SHA-256 of each file."""
        _expect(folder, (str, Path), "folder", "a path")
        write_bundle(self.files, folder)

    def __call__(self, picture: Picture, names: Sequence[str]) -> list[Detection]:
        """Find objects.

        Args:
            picture: Path of a file, its bytes, a Pillow image, or uint8 (H, W, 3) in RGB.
            names: What to look for, in words, each once, as a list or tuple; ``["red circle", "fish"]``.

        Returns:
            The objects, the surest first.

        Raises:
            InputError: It is no picture, there is no name, or one stands twice; or an argument is of another type.
        """
        _expect(picture, (str, Path, bytes, Image.Image, np.ndarray), "picture", "a path, bytes, a picture or pixels")
        _expect(names, (list, tuple), "names", "a list of texts")
        self._set_names(tuple(names))
        pixels = to_bgr(picture)
        boxes, logits = valid_regions(self._run(self._rpn, self._for_rpn({"img": pixels})))
        if not len(boxes):
            return []
        most = self.files.params.detection.test_proposals
        proposals = {"proposals": boxes[:most], "proposals_scores": logits[:most]}
        found = self._run(self._model, self._for_detector({"img": pixels, **proposals})).pred_instances
        values = zip(found.labels.tolist(), found.scores.tolist(), found.bboxes.tolist(), strict=True)
        return [Detection(self._names[label], score, tuple(box)) for label, score, box in values]

    def _set_names(self, names: tuple[str, ...]) -> None:
        for place, name in enumerate(names):
            _expect(name, (str,), f"names.{place}", "a text")
            if not name.strip():
                raise InputError("an empty name", key=f"names.{place}", mend="leave it out")
        if names and names == self._names:
            return
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice or not names:
            problem = f"the name stands twice: {twice[0]!r:.80}" if twice else "there is no name"
            raise InputError(problem, key="names", mend="give each thing to look for once")
        templates = TEMPLATE_SETS[self.files.params.text_bank.templates]
        embeddings = embed_names(self._text, self._tokenizer, names, templates, device=self._device)
        self._model.roi_head.bbox_head.fc_cls.set_vocabulary(embeddings)
        self._names = names

    def _placed(self, model: BaseModel) -> BaseModel:
        return model.to(self._device, memory_format=torch.channels_last).eval()

    @staticmethod
    @inference()
    def _run(model: BaseModel, record: dict[str, Any]) -> Any:
        return model.test_step(pseudo_collate([record]))[0].cpu()


def _expect(value: object, kinds: tuple[type, ...], key: str, words: str) -> None:
    """Refuse an argument of another type; a text in the place of a list would be taken for its letters."""
    if not isinstance(value, kinds):
        raise InputError(f"a {type(value).__name__} was given", key=key, mend=f"give {words}")


def _build_detector(files: DetectorFiles, clip: ClipFolder) -> BaseModel:
    finetune = files.params.finetune
    target, (state, meta) = finetune.sets[files.dataset], read(files.detector)
    model = build_detector(clip, finetune_settings(finetune, target, len(meta["classes"])), masks=target.masks)
    load_strictly(model, state, files.detector)
    if target.masks:
        # Boxes are what is asked for; masks would be computed and dropped.
        model.roi_head.mask_head = None
    return model


def _pipeline(geometric: list[dict[str, Any]]) -> Compose:
    pack = {"type": "PackDetInputs", "meta_keys": META_KEYS}
    # Outside a Runner, MMEngine finds MMDetection's transforms only in this scope.
    with DefaultScope.overwrite_default_scope("mmdet"):
        return Compose([{"type": "LoadImageFromNDArray"}, *geometric, pack])
