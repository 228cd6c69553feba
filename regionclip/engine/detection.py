"""A trained detector, a model's detections on a split, and how well it names the split's true boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from mmengine.dist import is_main_process
from mmengine.model import BaseModel

from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.checkpoints.loading import load_strictly
from regionclip.checkpoints.mmengine_files import read
from regionclip.data.annotations.truth import BoxArrays
from regionclip.data.datasets.detection import boxes_dataset, test_pipeline
from regionclip.data.layout import detection_set, load_classes
from regionclip.engine.prediction import name_true_boxes, predict
from regionclip.evaluation.detections import detections_from_samples
from regionclip.evaluation.protocols import Group
from regionclip.evaluation.region_classification import classify_regions
from regionclip.models.assembly import build_detector
from regionclip.models.detector_settings import detection_settings, finetune_settings, split_settings
from regionclip.models.region_encoder import RegionEncoder
from regionclip.params.stages import Detection as PictureSizes
from regionclip.params.stages import Finetune
from regionclip.text.text_bank import TextBank


def trained_detector(file: Path, clip: ClipFolder, finetune: Finetune, dataset: str) -> BaseModel:
    """Read a checkpoint of the stage `finetune` into its model.

    Args:
        file: The checkpoint.
        clip: The CLIP that it started from.
        finetune: Section ``finetune`` of the params.
        dataset: The data set that it was trained on.

    Raises:
        InputError: The file is broken, or of another architecture.
    """
    target, (state, meta) = finetune.sets[dataset], read(file)
    settings = finetune_settings(finetune, target, len(meta["classes"])) | detection_settings(target)
    if target.pseudo_boxes is not None:
        # Of its labels only the number matters here.
        settings |= split_settings(target, [*range(len(meta["pseudo_box_classes"]))])
    model = build_detector(clip, settings, masks=target.masks, trained=True, filled=False)
    if fused := target.fusion is not None:
        # The checkpoint holds what was trained, the CLIP what it was before.
        model.roi_head.freeze()
        state = {key: value for key, value in model.state_dict().items() if key.startswith("roi_head.frozen_")} | state
    load_strictly(model, state, file)
    if fused:
        model.roi_head.frozen_classes.copy_(model.roi_head.bbox_head.fc_cls.embeddings)
    return model


def detect(
    model: BaseModel,
    dataset: str,
    split: str,
    sizes: PictureSizes,
    proposals: Path | Literal["truth"],
    bank: TextBank,
    title: str,
    group: Group = "all",
) -> BoxArrays:
    """Detect the classes of a group in a split, all at once.

    Args:
        model: An open-vocabulary Fast R-CNN.
        dataset, split, sizes: The pictures.
        proposals: Region store, or ``truth`` for the true boxes.
        bank: One embedding a class, in the order of the class list.
        title: Shown by the progress bar.
        group: The vocabulary: all classes; or the base or the novel ones alone (the constrained protocol).

    Returns:
        The detections; processes of a group share the pictures, and the first has those of all.
    """
    classes = load_classes(dataset)
    bank.require(names=classes.names)
    pairs = zip(classes.names, classes.ids, strict=True)
    ids = {name: identity for name, identity in pairs if name in classes.groups[group]}
    names, pipeline = tuple(ids), test_pipeline(sizes, proposals)
    model.roi_head.bbox_head.fc_cls.set_vocabulary(bank.subset(names).embeddings)
    pictures = boxes_dataset(detection_set(dataset, split), names, pipeline, training=False)
    samples = predict(model, pictures, title=title, batch_size=sizes.test_batch)
    return detections_from_samples(samples, tuple(ids.values()))


def true_box_top1(
    encoder: RegionEncoder, preprocessor: BaseModel, dataset: str, split: str, sizes: PictureSizes, bank: TextBank
) -> dict[str, Any]:
    """Return top-1 and top-5 accuracy of the true boxes' RoI features among all classes; see `classify_regions`.

    Processes of a group share the pictures, and the others than the first have no numbers. Arguments are those of
    `name_true_boxes` and `detect`.
    """
    classes, pipeline = load_classes(dataset), test_pipeline(sizes, "truth")
    pictures = boxes_dataset(detection_set(dataset, split), classes.names, pipeline, training=False)
    title, batch_size = f"{dataset} top-1", sizes.test_batch
    found = list(name_true_boxes(encoder, preprocessor, pictures, bank.embeddings, title=title, batch_size=batch_size))
    if not is_main_process():
        return {}
    scores, labels = (torch.cat([getattr(item, key) for item in found]).numpy() for key in ("logits", "labels"))
    return classify_regions(scores, labels, classes.names, classes.groups, "roi_align", bank.templates)
