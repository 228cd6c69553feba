"""Stage text_bank: concept and class names to text embeddings, through the prompt ensemble."""

from __future__ import annotations

from pathlib import Path

from regionclip import runtime
from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.data.layout import load_classes
from regionclip.stages.runner import StageContext
from regionclip.text.concepts import ConceptPool
from regionclip.text.embed import embed_names
from regionclip.text.prompts import TEMPLATE_SETS
from regionclip.text.text_bank import TextBank

CONCEPTS, TEACHER, OUT = Path("artifacts/concepts/concepts.csv"), Path("artifacts/teacher"), Path("artifacts/text_bank")


def run(context: StageContext) -> dict[str, int]:
    """Write artifacts/text_bank/{concepts,coco,lvis}.safetensors."""
    clip = ClipFolder.open(TEACHER)
    model, tokenizer = clip.model().to(runtime.device()), clip.tokenizer()
    templates = TEMPLATE_SETS[context.params.text_bank.templates]
    weights_sha256 = clip.weights_sha256
    names = {"concepts": ConceptPool.load(CONCEPTS).concepts}
    names |= {dataset: load_classes(dataset).names for dataset in ("coco", "lvis")}
    for bank, of in names.items():
        embeddings = embed_names(model, tokenizer, of, templates, device=runtime.device())
        TextBank(
            names=tuple(of),
            embeddings=embeddings.cpu(),
            templates=tuple(templates),
            text_model=context.params.teacher.model or context.params.profile,
            weights_sha256=weights_sha256,
        ).save(OUT / f"{bank}.safetensors")
    return {f"{bank}_names": len(of) for bank, of in names.items()}
