"""Stage text_bank: concept and class names to text embeddings; how well the teacher recognises with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regionclip import artifacts, runtime
from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.data.layout import data_sets, detection_set, load_classes
from regionclip.labelling.teacher import crop_top1, image_top1
from regionclip.text.concepts import ConceptPool
from regionclip.text.prompts import TEMPLATE_SETS, embed_names
from regionclip.text.text_bank import TextBank

if TYPE_CHECKING:
    from regionclip.stages.runner import StageContext

HELD_OUT_PAIRS = artifacts.PAIRS / "val"


def run(context: StageContext) -> dict[str, Any]:
    """Write artifacts/text_bank/{concepts,DATASET}.safetensors; measure the teacher on images and true crops."""
    clip = ClipFolder.open(artifacts.TEACHER)
    model, tokenizer = clip.model().to(runtime.device()), clip.tokenizer()
    templates = TEMPLATE_SETS[context.params.text_bank.templates]
    weights_sha256 = clip.weights_sha256
    names = {dataset: load_classes(dataset).names for dataset in data_sets()}
    if not context.params.pretrain.weights:
        names["concepts"] = ConceptPool.load(artifacts.CONCEPT_POOL).concepts
    for bank, of in names.items():
        embeddings = embed_names(model, tokenizer, of, templates, device=runtime.device())
        TextBank(
            names=tuple(of),
            embeddings=embeddings.cpu(),
            templates=tuple(templates),
            text_model=context.params.teacher.model or context.params.profile,
            weights_sha256=weights_sha256,
        ).save(artifacts.TEXT_BANKS / f"{bank}.safetensors")
    counts = {f"{bank}_names": len(of) for bank, of in names.items()}
    return counts | {"teacher": _measure(context, clip)}


def _measure(context: StageContext, clip: ClipFolder) -> dict[str, float]:
    dataset = context.params.rpn.dataset
    bank, classes = TextBank.load(artifacts.class_bank(dataset)), load_classes(dataset)
    scenes, factor = detection_set(dataset, context.params.evaluation.split), context.params.pseudo_labels.crop_context
    metrics = {"crop_top1": crop_top1(clip, scenes, classes, bank, factor)}
    if any(HELD_OUT_PAIRS.glob("*.tar")):
        metrics["image_top1"] = image_top1(clip, HELD_OUT_PAIRS, bank)
    return metrics
