"""Stage text_bank: concept and class names to text embeddings; how well the teacher recognises with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from regionclip import artifacts, runtime
from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.data.layout import data_sets, detection_set, load_classes
from regionclip.files import atomic_dir
from regionclip.labelling.teacher import classify_crops, image_top1
from regionclip.stages.context import StageContext
from regionclip.text.concepts import ConceptPool
from regionclip.text.prompts import TEMPLATE_SETS, embed_names
from regionclip.text.text_bank import TextBank

HELD_OUT_PAIRS = artifacts.PAIRS / "val"


def run(context: StageContext) -> dict[str, Any]:
    """Write artifacts/text_bank and artifacts/concept_bank; measure the teacher on images and true crops.

    Banks of classes and of concepts lie apart, because a training depends on those that it reads.
    """
    clip = ClipFolder.open(artifacts.TEACHER)
    model, tokenizer = clip.model().to(runtime.device()), clip.tokenizer()
    templates = TEMPLATE_SETS[context.params.text_bank.templates]
    counts = {}

    def write(file: Path, names: Sequence[str]) -> None:
        embeddings = embed_names(model, tokenizer, names, templates, device=runtime.device())
        TextBank(
            names=tuple(names),
            embeddings=embeddings.cpu(),
            templates=tuple(templates),
            text_model=context.params.teacher.model or context.params.profile,
            weights_sha256=clip.weights_sha256,
        ).save(file)
        counts[f"{file.stem}_names"] = len(names)

    with atomic_dir(artifacts.TEXT_BANKS) as folder:
        for dataset in data_sets():
            write(folder / artifacts.class_bank(dataset).name, load_classes(dataset).names)
    with atomic_dir(artifacts.CONCEPT_BANK.parent) as folder:
        if not context.params.pretrain.weights:
            write(folder / artifacts.CONCEPT_BANK.name, ConceptPool.load(artifacts.CONCEPT_POOL).concepts)
    return counts | {"teacher": _measure(context, clip)}


def _measure(context: StageContext, clip: ClipFolder) -> dict[str, float]:
    dataset = context.params.rpn.dataset
    bank, classes = TextBank.load(artifacts.class_bank(dataset)), load_classes(dataset)
    scenes, factor = detection_set(dataset, context.params.evaluation.split), context.params.pseudo_labels.crop_context
    metrics = {"crop_top1": classify_crops(clip, scenes, classes, bank, factor)["top1_all"] or 0.0}
    if any(HELD_OUT_PAIRS.glob("*.tar")):
        metrics["image_top1"] = image_top1(clip, HELD_OUT_PAIRS, bank)
    return metrics
