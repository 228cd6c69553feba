"""Run a model over a data set, with a progress bar; several processes share the batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from mmengine.dataset import pseudo_collate
from mmengine.dist import all_gather_object, get_dist_info, is_main_process
from mmengine.model import BaseModel
from rich.progress import track
from torch.utils.data import BatchSampler, DataLoader, Dataset

from regionclip import runtime
from regionclip.engine.stop_request import leave_process_group
from regionclip.models.region_encoder import RegionEncoder
from regionclip.regions.matching import cosine_logits

if TYPE_CHECKING:
    from mmdet.structures import DetDataSample


def predict(model: BaseModel, dataset: Dataset, *, title: str, batch_size: int) -> Iterator[DetDataSample]:
    """Yield a detector's predictions for each picture, in order, on the CPU, boxes in original pixels.

    Pictures of a batch are padded to one size; see `over_batches` of the rest.
    """
    model = model.to(runtime.device(), memory_format=torch.channels_last).eval()

    def step(batch: dict[str, Any]) -> list[DetDataSample]:
        return [sample.cpu() for sample in model.test_step(batch)]

    return over_batches(step, dataset, title=title, batch_size=batch_size)


@contextmanager
def inference(device: torch.device | None = None) -> Iterator[None]:
    """Without gradients, in the precision of ``REGIONCLIP_PRECISION``."""
    dtype, where = getattr(torch, runtime.precision()), device or runtime.device()
    with torch.inference_mode(), torch.autocast(where.type, dtype, enabled=dtype != torch.float32):
        yield


class NamedRegions(NamedTuple):
    """The true boxes of one picture, on the CPU."""

    sample: DetDataSample  # the record that they are of
    logits: torch.Tensor  # (N, K) cosines with the classes
    labels: torch.Tensor  # (N,) true classes


def name_true_boxes(
    encoder: RegionEncoder,
    preprocessor: BaseModel,
    dataset: Dataset,
    embeddings: torch.Tensor,
    *,
    title: str,
    batch_size: int,
) -> Iterator[NamedRegions]:
    """Compare the true boxes' RoI features with the classes' embeddings, picture by picture, in order.

    Args:
        encoder: Embeds regions.
        preprocessor: Normalises and batches pictures (MMDetection's ``DetDataPreprocessor``).
        dataset: Of a test pipeline with the true boxes as proposals.
        embeddings: (K, D), one a class, in label order.
        title, batch_size: See `over_batches`; pictures of a batch are padded to one size.
    """
    device = runtime.device()
    encoder, preprocessor, text = encoder.to(device).eval(), preprocessor.to(device), embeddings.to(device)

    def step(batch: dict[str, Any]) -> list[NamedRegions]:
        data = preprocessor(batch, False)
        features, samples = encoder.forward_features(data["inputs"]), data["data_samples"]
        boxes = [sample.proposals.bboxes for sample in samples]
        logits = cosine_logits(encoder.encode(features, boxes), text, 1.0).cpu().split([len(box) for box in boxes])
        return [
            NamedRegions(sample.cpu(), row, sample.gt_instances.labels.cpu())
            for sample, row in zip(samples, logits, strict=True)
        ]

    return over_batches(step, dataset, title=title, batch_size=batch_size)


def over_batches(
    step: Callable[[dict[str, Any]], list[Any]], dataset: Dataset, *, title: str, batch_size: int
) -> Iterator[Any]:
    """Yield what ``step`` returns for each batch of a data set, in order.

    In a process group the batches are dealt to the processes, whole, so that padding is that of one process. The
    first process yields the results of all; the others yield nothing but must be exhausted too.

    ``step`` gets a batch of records and returns a list of objects on the CPU; it works without gradients. ``title`` is
    shown by the progress bar.
    """
    rank, processes = get_dist_info()
    batches = list(BatchSampler(range(len(dataset)), batch_size, drop_last=False))
    loader = DataLoader(
        dataset,
        batch_sampler=batches[rank::processes],
        num_workers=runtime.loader_workers(),
        collate_fn=pseudo_collate,
        worker_init_fn=leave_process_group,
    )
    own, rounds = iter(loader), range(-(-len(batches) // processes))
    for _ in track(rounds, description=title, disable=not is_main_process()):
        batch = next(own, None)
        with inference():
            results = [] if batch is None else step(batch)
        gathered = all_gather_object(results)
        yield from chain.from_iterable(gathered) if is_main_process() else ()
