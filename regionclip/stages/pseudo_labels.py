"""Stage pseudo_labels: proposals of the captioned scenes with the concepts that a CLIP sees in them, and captions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from regionclip import artifacts, runtime
from regionclip.artifacts import CONCEPT_BANK, PSEUDO_LABELS, RPN, SCENES_TRUTH, TEACHER
from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.data.captions import CaptionedImage, CaptionTable, open_captioned_images
from regionclip.data.datasets.detection import PicturesDataset
from regionclip.data.layout import captioned_scenes, load_classes
from regionclip.data.pictures import ImageSpan
from regionclip.data.rejects import SUFFIX, Rejects
from regionclip.errors import InputError
from regionclip.evaluation.pseudo_labels import LabelledRegions, pseudo_label_precision
from regionclip.files import atomic_dir, sha256_file
from regionclip.labelling.proposals import trained_rpn
from regionclip.labelling.random_regions import RandomRegions
from regionclip.labelling.regions import Proposer, embed_captions, label_regions
from regionclip.labelling.views import RegionTeacher
from regionclip.regions.matching import ConceptMatcher
from regionclip.regions.store import RegionStore
from regionclip.regions.store_parts import StoreParts
from regionclip.stages.context import StageContext
from regionclip.text.prompts import embed_names
from regionclip.text.text_bank import TextBank


class _Pictures(Sequence[tuple[int | str, Path | ImageSpan]]):
    """Id and place of each captioned image that can be read, made when asked for; of millions a list takes gigabytes.

    The gate on data has listed the images that cannot be read.
    """

    def __init__(self, table: CaptionTable, rows: np.ndarray | None = None) -> None:
        self.table, self.ids = table, table.ids
        self.rows = np.arange(len(table)) if rows is None else rows

    @classmethod
    def read(cls, rejects: Rejects) -> _Pictures:
        """Read the captions of the scenes."""
        return cls(open_captioned_images(*captioned_scenes(), rejects).table())

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[int | str, Path | ImageSpan]:
        return self.ids[int(self.rows[index])].as_py(), self.record(index).image

    def record(self, index: int) -> CaptionedImage:
        """Return the image with its captions."""
        return self.table[int(self.rows[index])]


def run(context: StageContext) -> dict[str, Any]:
    """Write artifacts/pseudo_labels; measure it against the scenes' true objects, which nothing else reads.

    Parts that `run_shard` has made are taken up, the others are made here.
    """
    if context.params.pretrain.weights:
        with atomic_dir(PSEUDO_LABELS):
            return context.not_needed("pretrain.weights is given")
    bank = TextBank.load(CONCEPT_BANK)
    with Rejects(artifacts.rejected("pseudo_labels"), context.params.quarantine.max_fraction) as rejects:
        pictures = _Pictures.read(rejects)
        parts = _label(context, bank, pictures)
        for error in parts.rejected():
            rejects.add(error)
        rejects.check(len(rejects), len(pictures), captioned_scenes()[0])
    parts.merge(PSEUDO_LABELS)
    return _measure(context, bank) | {"rejected": len(rejects)}


def run_shard(context: StageContext, number: int, shards: int) -> None:
    """Label share ``number``, from 1, of ``shards`` of the pictures; ``run`` finds its parts in the scratch folder."""
    if context.params.pretrain.weights:
        context.not_needed("pretrain.weights is given")
        return
    # The stage itself reports what is set aside.
    limit = context.params.quarantine.max_fraction
    with Rejects(context.scratch / f"{number}_of_{shards}{SUFFIX}", limit) as rejects:
        _label(context, TextBank.load(CONCEPT_BANK), _Pictures.read(rejects), number, shards)


def _label(
    context: StageContext, bank: TextBank, everything: _Pictures, number: int = 1, shards: int = 1
) -> StoreParts:
    """Make what is missing of a share of the parts."""
    params, batch = context.params.pseudo_labels, context.params.detection.test_batch
    clip = ClipFolder.open(TEACHER)
    labeller = ClipFolder.open(params.weights) if params.weights else clip
    bank.require(width=clip.model_cfg["embed_dim"], weights_sha256=clip.weights_sha256)
    metadata = {
        "teacher_sha256": clip.weights_sha256,
        "labeller_sha256": labeller.weights_sha256,
        "bank_sha256": bank.sha256,
        "rpn_sha256": sha256_file(RPN) if params.regions == "rpn" else "random regions",
        "view": params.view,
        "temperature": str(params.temperature),
        "threshold": str(params.threshold),
    }
    options = {"k": min(params.top_k, len(bank.names)), "concepts": len(bank.names)}
    options["caption_width"] = clip.model_cfg["embed_dim"]
    parts = StoreParts(context.scratch / "parts", len(everything), batch, metadata, **options)
    missing = parts.missing(parts.of_worker(number, shards))
    if not missing:
        return parts
    model, tokenizer = clip.model().to(runtime.device()), clip.tokenizer()
    labelling, concepts = model, bank.embeddings
    if labeller is not clip:
        labelling = labeller.model().to(runtime.device())
        concepts = embed_names(labelling, labeller.tokenizer(), bank.names, bank.templates, runtime.device())
    teacher = RegionTeacher(labelling, params.view, params.crop_context)
    matcher = ConceptMatcher(concepts, params.temperature)
    left = np.concatenate([parts.images_of(part) for part in missing])
    pictures = PicturesDataset(_Pictures(everything.table, left), context.params.detection)
    labelled = label_regions(_proposer(context, clip), teacher, matcher, pictures, params.top_k, batch)
    for part in missing:
        records = [everything.record(place) for place in parts.images_of(part)]
        features = embed_captions(model, tokenizer, [caption for record in records for caption in record.captions])
        with parts.writing(part) as (writer, rejected):
            for place, record in zip(parts.images_of(part), records, strict=True):
                found = next(labelled)
                if isinstance(found, InputError):
                    rejected.append(found)
                else:
                    captions = {caption: features[caption] for caption in record.captions}
                    writer.add(everything[place][0], *found[:4], captions)
    # Its progress bar ends with it.
    next(labelled, None)
    return parts


def _proposer(context: StageContext, clip: ClipFolder) -> Proposer:
    """Return what proposes regions: the RPN, or the paper's ablation, boxes at random."""
    params = context.params.pseudo_labels
    if params.regions == "random":
        return RandomRegions(params.proposals, context.params.seed)
    model = trained_rpn(RPN, clip, context.params.rpn, nms_iou=params.nms_iou, proposals=params.proposals)
    return model.to(runtime.device()).eval().test_step


def _measure(context: StageContext, bank: TextBank) -> dict[str, Any]:
    store, threshold = RegionStore.open(PSEUDO_LABELS), context.params.pseudo_labels.threshold
    quality = store.summary()
    if SCENES_TRUTH.exists():
        classes = load_classes(SCENES_TRUTH.parent.name, artifacts.DATA)
        quality |= pseudo_label_precision(SCENES_TRUTH, _labelled(store, bank, threshold), classes)
    return quality


def _labelled(store: RegionStore, bank: TextBank, threshold: float) -> Iterator[LabelledRegions]:
    for image_id in store.image_ids:
        regions = store[image_id]
        confidence = regions.concept_prob[:, 0]
        names = [bank.names[index] for index in regions.concept_index[:, 0]]
        yield LabelledRegions(image_id, regions.boxes, names, confidence, confidence > threshold)
