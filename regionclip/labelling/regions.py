"""Label captioned pictures: boxes of the RPN (or any other), the teacher's concepts and what it makes of captions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel
from rich.progress import track
from torch.utils.data import DataLoader, Dataset

from regionclip import runtime
from regionclip.engine.prediction import inference
from regionclip.engine.stop_request import leave_process_group
from regionclip.errors import InputError
from regionclip.labelling.proposals import valid_regions
from regionclip.labelling.views import RegionTeacher
from regionclip.models.assembly import clip_preprocessor
from regionclip.regions.matching import ConceptMatcher
from regionclip.regions.store import Regions

if TYPE_CHECKING:
    from mmdet.structures import DetDataSample

_CAPTIONS = 256  # at a time

Proposer = Callable[[dict[str, Any]], "list[DetDataSample]"]


def label_regions(
    propose: Proposer,
    teacher: RegionTeacher,
    matcher: ConceptMatcher,
    pictures: Dataset,
    top_k: int,
    batch_size: int,
) -> Iterator[Regions | InputError]:
    """Yield the labelled regions of each picture, in order, or why it cannot be read.

    Args:
        propose: Gives the data samples of a batch their ``pred_instances``: ``test_step`` of a trained RPN on
            ``runtime.device()``, or `RandomRegions`.
        teacher: Embeds regions.
        matcher: Turns embeddings into probabilities over the concepts.
        pictures: Gives ``inputs`` and ``data_samples``.
        top_k: Concepts kept a region.
        batch_size: Pictures at a time.

    Yields:
        Boxes float32 (N, 4) xyxy in original pixels, objectness logits float32 (N,), concept_index int32 (N, k),
        concept_prob float32 (N, k) best first.
    """
    device = runtime.device()
    teacher, normalise = teacher.to(device), clip_preprocessor(teacher.encoder).to(device)
    loader = DataLoader(
        _Tolerant(pictures),
        batch_size=batch_size,
        num_workers=runtime.loader_workers(),
        collate_fn=list,
        worker_init_fn=leave_process_group,
    )
    for records in track(loader, description="pseudo labels"):
        sound = [record for record in records if not isinstance(record, InputError)]
        with inference():
            found = _label_batch(pseudo_collate(sound), propose, teacher, matcher, normalise, top_k) if sound else []
        labelled = iter(found)
        yield from (record if isinstance(record, InputError) else next(labelled) for record in records)


def _label_batch(
    batch: dict[str, Any],
    propose: Proposer,
    teacher: RegionTeacher,
    matcher: ConceptMatcher,
    normalise: BaseModel,
    top_k: int,
) -> list[Regions]:
    # The official RPNs see pictures in another normalisation than CLIP.
    images = normalise(batch, False)["inputs"]
    samples = propose(batch)
    found = [valid_regions(sample.cpu()) for sample in samples]
    boxes = [
        torch.from_numpy(boxes * np.tile(np.float32(sample.scale_factor), 2)).to(images.device)
        for (boxes, _), sample in zip(found, samples, strict=True)
    ]
    counts, k = [len(of_one) for of_one in boxes], min(top_k, len(matcher.bank))
    index, probs = torch.zeros(0, k, dtype=torch.int32), torch.zeros(0, k)
    if sum(counts):
        index, probs = (labels.cpu() for labels in matcher(teacher(images, boxes), k))
    parts = zip(found, index.split(counts), probs.split(counts), strict=True)
    return [Regions(*regions, concepts.numpy(), certainty.numpy()) for regions, concepts, certainty in parts]


def embed_captions(
    clip: torch.nn.Module, tokenizer: Callable[[list[str]], torch.Tensor], captions: Sequence[str]
) -> dict[str, np.ndarray]:
    """Encode captions by a CLIP on ``runtime.device()``: caption -> features (D,) float32, any norm."""
    texts = list(dict.fromkeys(captions))
    if not texts:
        return {}
    tokens, found = tokenizer(texts), {}
    # Those of one length go together, as a batch is as long as its longest.
    for rows in tokens.argmax(dim=1).argsort(stable=True).split(_CAPTIONS):
        with inference():
            features = clip.encode_text(tokens[rows].to(runtime.device())).float().cpu().numpy()
        found |= {texts[row]: of_one for row, of_one in zip(rows.tolist(), features, strict=True)}
    return found


class _Tolerant(Dataset):
    """Gives the error in the place of a picture that cannot be read."""

    def __init__(self, pictures: Dataset) -> None:
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> dict[str, Any] | InputError:
        try:
            return self.pictures[index]
        except InputError as error:
            return error
