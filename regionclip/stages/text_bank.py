"""Stage text_bank: concept and class names to text embeddings; how well the teacher recognises with them."""

from __future__ import annotations

from itertools import chain
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

    Banks of classes and of concepts lie apart, because a training depends on those that it reads. A name that several
    have is embedded once.
    """
    clip = ClipFolder.open(artifacts.TEACHER)
    templates = TEMPLATE_SETS[context.params.text_bank.templates]
    banks = {artifacts.class_bank(dataset): load_classes(dataset).names for dataset in data_sets()}
    if not context.params.pretrain.weights:
        banks[artifacts.CONCEPT_BANK] = ConceptPool.load(artifacts.CONCEPT_POOL).concepts
    rows = {name: row for row, name in enumerate(dict.fromkeys(chain.from_iterable(banks.values())))}
    model = clip.model().to(runtime.device())
    embeddings = embed_names(model, clip.tokenizer(), [*rows], templates, device=runtime.device())
    for parent in (artifacts.TEXT_BANKS, artifacts.CONCEPT_BANK.parent):
        with atomic_dir(parent) as folder:
            for file in (file for file in banks if file.parent == parent):
                TextBank(
                    names=tuple(banks[file]),
                    embeddings=embeddings[[rows[name] for name in banks[file]]],
                    templates=tuple(templates),
                    text_model=context.params.teacher.model or context.params.profile,
                    weights_sha256=clip.weights_sha256,
                ).save(folder / file.name)
    counts = {f"{file.stem}_names": len(names) for file, names in banks.items()}
    return counts | {"teacher": _measure(context, clip)}


def _measure(context: StageContext, clip: ClipFolder) -> dict[str, float]:
    dataset = context.params.rpn.dataset
    bank, classes = TextBank.load(artifacts.class_bank(dataset)), load_classes(dataset)
    scenes, factor = detection_set(dataset, context.params.evaluation.split), context.params.pseudo_labels.crop_context
    metrics = {"crop_top1": classify_crops(clip, scenes, classes, bank, factor)["top1_all"] or 0.0}
    if any(HELD_OUT_PAIRS.glob("*.tar")):
        metrics["image_top1"] = image_top1(clip, HELD_OUT_PAIRS, bank)
    return metrics
