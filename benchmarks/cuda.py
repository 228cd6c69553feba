"""What one GPU does at the paper's sizes in bfloat16: pictures a second, memory, share of the device's peak.

Run ``make bench-cuda`` on an idle GPU (ten minutes at most). Pictures are random and lie on the device: reading takes
no part. ``benchmarks.hours`` turns the result into GPU hours.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import torch
from mmdet.structures import DetDataSample
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from mmengine.structures import InstanceData
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import paired, speed
from regionclip.checkpoints.clip_folder import ClipFolder, save_clip
from regionclip.engine.prediction import inference
from regionclip.engine.training import recipe
from regionclip.files import atomic_path, write_json
from regionclip.models.assembly import build_detector, build_pretrainer
from regionclip.models.detector_settings import finetune_settings
from regionclip.params import check_params
from regionclip.params.stages import Schedule
from regionclip.workspace.profiles import compose_profile

# Dense bfloat16 operations a second, by what the device's name holds (vendor's data sheets).
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12}


class Sizes(NamedTuple):
    """What is measured; the paper's."""

    model: str = speed.MODEL
    picture: tuple[int, int] = (800, 1088)  # pixels, height and width
    batches: tuple[int, ...] = (96, 64, 48, 32, 16, 8, 4, 2, 1)  # the first that fits is measured
    regions: int = 100  # a picture in pretraining
    concepts: int = 6250
    joint: tuple[int, int] = (96, 16)  # batch and micro batch of pretraining on one device
    finetune: tuple[int, int] = (2, 512)  # pictures and regions of each, as of one of eight GPUs
    proposals: tuple[int, ...] = (300, 1000)  # of one picture in a test
    classes: int = 65
    rounds: int = 10


class Work(NamedTuple):
    """What is measured, in words, of how many pictures, how it is done, and how its operations are counted."""

    work: str
    pictures: int
    act: Callable[[], object]
    counted: Callable[[], object] | None = None


def clip_folder(model: str, folder: Path) -> ClipFolder:
    """Write a CLIP of random weights."""
    clip = speed._clip(torch.device("cpu"), model)
    save_clip(folder, open_clip.get_model_config(model), clip.state_dict(), {})
    return ClipFolder.open(folder)


def pretraining(
    clip: ClipFolder,
    device: torch.device,
    sizes: Sizes,
    pictures: int,
    micro_batch: int | None = None,
    wrap: Callable[[BaseModel], torch.nn.Module] = lambda model: model,
) -> Work:
    """A step of the paper's pretraining: three losses, gradients, clipping, the weights' move.

    ``wrap`` puts something around the model, so that several processes train it.
    """
    params = check_params(compose_profile("pretrain_cc3m_rn50"), "pretrain_cc3m_rn50").pretrain
    model = build_pretrainer(clip, params)
    model.micro_batch = micro_batch
    model.set_concepts(torch.randn(sizes.concepts, clip.model_cfg["embed_dim"]))
    samples = []
    for _ in range(pictures):
        probs, index = torch.rand(sizes.regions, sizes.concepts).softmax(dim=1).topk(16, dim=1)
        sample = _sample(sizes)
        sample.proposals = InstanceData(bboxes=_boxes(sizes, sizes.regions), concept_index=index, concept_prob=probs)
        sample.caption_features = torch.randn(clip.model_cfg["embed_dim"])
        samples.append(sample)
    parts = "" if micro_batch is None else f", {micro_batch} held at a time"
    work = f"pretraining, {pictures} pictures x {sizes.regions} regions{parts}"
    return Work(work, pictures, _step(model, samples, params.schedule, device, sizes, wrap))


def finetuning(clip: ClipFolder, device: torch.device, sizes: Sizes) -> Work:
    """A step of the transfer to COCO."""
    (pictures, regions), samples = sizes.finetune, []
    finetune = _transfer().finetune.model_copy(update={"regions_per_image": regions})
    model = _detector(clip, sizes, finetune)
    for _ in range(pictures):
        sample, truth = _sample(sizes), _boxes(sizes, 7)
        sample.gt_instances = InstanceData(bboxes=truth, labels=torch.randint(sizes.classes, (7,)))
        sample.proposals = InstanceData(bboxes=_boxes(sizes, 2 * regions), scores=torch.randn(2 * regions))
        samples.append(sample)
    schedule = finetune.sets["coco"].schedule
    return Work(
        f"fine-tuning, {pictures} x {regions} regions", pictures, _step(model, samples, schedule, device, sizes)
    )


def testing(clip: ClipFolder, device: torch.device, sizes: Sizes, proposals: int) -> Work:
    """Detect in one picture."""
    sample, model = _sample(sizes), _detector(clip, sizes, _transfer().finetune)
    sample.proposals = InstanceData(bboxes=_boxes(sizes, proposals), scores=torch.randn(proposals))
    model, data = _ready(model.eval(), [sample], device, sizes)

    @torch.no_grad()
    def forward() -> object:
        return model(**_fresh(data), mode="predict")

    def act() -> object:
        with inference():
            return forward()

    # The counter cannot look into inference mode with autocast.
    return Work(f"detection, {proposals} proposals x {sizes.classes} classes", 1, act, counted=forward)


def measure(work: Work, device: torch.device, rounds: int) -> dict[str, Any]:
    """Count a work's operations, then time it; the first two times are not counted."""
    # What a work before it left in cycles is no memory of this one.
    gc.collect()
    with FlopCounterMode(display=False) as counter:
        (work.counted or work.act)()
    operations = counter.get_total_flops()
    cuda = device.type == "cuda"
    paired.seconds(work.act, device)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    seconds = statistics.median(paired.seconds(work.act, device) for _ in range(rounds))
    peak = next((peak for name, peak in PEAKS.items() if cuda and name in torch.cuda.get_device_name(device)), None)
    return {
        "work": work.work,
        "pictures": work.pictures,
        "seconds": seconds,
        "images_per_second": work.pictures / seconds,
        "tera_operations": operations / 1e12,
        "share_of_peak": None if peak is None else operations / seconds / peak,
        "peak_memory_gib": torch.cuda.max_memory_allocated() / 2**30 if cuda else None,
        "rounds": rounds,
    }


def measure_all(device: torch.device, sizes: Sizes) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each work's name and numbers."""
    with tempfile.TemporaryDirectory() as folder:
        clip = clip_folder(sizes.model, Path(folder) / "clip")
        for pictures in sizes.batches:
            try:
                yield "pretraining", measure(pretraining(clip, device, sizes, pictures), device, sizes.rounds)
                break
            except torch.OutOfMemoryError:
                print(f"{pictures} pictures do not fit")
            # The error held the step's tensors until here.
            gc.collect()
            torch.cuda.empty_cache()
        joint = pretraining(clip, device, sizes, *sizes.joint)
        yield "pretraining_joint", measure(joint, device, sizes.rounds)
        yield "finetuning", measure(finetuning(clip, device, sizes), device, sizes.rounds)
        for proposals in sizes.proposals:
            yield f"testing_{proposals}", measure(testing(clip, device, sizes, proposals), device, sizes.rounds)


def main(arguments: list[str] | None = None, sizes: Sizes | None = None) -> None:
    """Measure all, the pairs of `benchmarks.speed` too, and write it as JSON and as a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try the program out")
    parser.add_argument("--out", type=Path, default=paired.RESULTS, help="folder of cuda.json and cuda.md")
    chosen, sizes = parser.parse_args(arguments), sizes or Sizes()
    os.environ |= {"REGIONCLIP_DEVICE": chosen.device, "REGIONCLIP_PRECISION": "bf16"}
    device, works = torch.device(chosen.device), {}
    for name, numbers in measure_all(device, sizes):
        works[name] = numbers
        print(f"{numbers['work']}: {numbers['images_per_second']:.3g} pictures a second")
    pairs = {part: paired.measure(make(device), 5, device) for part, make in speed.PAIRS.items()}
    # Plain is one picture in float32.
    for name in ("pretraining", "pretraining_joint"):
        works[name]["times_plain"] = works[name]["images_per_second"] * pairs["pretrain"]["plain_seconds"]
    machine = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "torch": torch.__version__,
    }
    write_json(chosen.out / "cuda.json", {"machine": machine, "works": works, "pairs": pairs})
    with atomic_path(chosen.out / "cuda.md") as beside:
        beside.write_text(page(machine, works, pairs), encoding="utf-8")


def page(machine: dict[str, Any], works: dict[str, dict[str, Any]], pairs: dict[str, dict[str, Any]]) -> str:
    """Return the page."""
    lines = [
        "# Speed of one GPU",
        "",
        "`make bench-cuda`: the paper's sizes in bfloat16, medians. PyTorch counts operations, a multiply-add as two.",
        f"Times plain: over plain pretraining in float32, below. {', '.join(machine.values())}.",
        "",
        "| work | pictures a second | seconds | tera operations | share of peak | memory, GiB | times plain |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in works.values():
        rest = (row["share_of_peak"], row["peak_memory_gib"], row.get("times_plain"))
        cells = [row["images_per_second"], row["seconds"], row["tera_operations"], *rest]
        lines.append(f"| {row['work']} | {' | '.join('' if cell is None else f'{cell:.3g}' for cell in cells)} |")
    return "\n".join([*lines, "", paired.page(machine, pairs).replace("# ", "## ", 1)])


def _transfer() -> Any:
    return check_params(compose_profile("transfer_coco48_rn50"), "transfer_coco48_rn50")


def _detector(clip: ClipFolder, sizes: Sizes, finetune: Any) -> BaseModel:
    settings = finetune_settings(finetune, finetune.sets["coco"], sizes.classes)
    model = build_detector(clip, settings, finetune.frozen_stages)
    model.roi_head.bbox_head.fc_cls.set_vocabulary(torch.randn(sizes.classes, clip.model_cfg["embed_dim"]))
    return model


def _step(
    model: BaseModel,
    samples: list[DetDataSample],
    schedule: Schedule,
    device: torch.device,
    sizes: Sizes,
    wrap: Callable[[BaseModel], torch.nn.Module] = lambda model: model,
) -> Callable[[], object]:
    model, data = _ready(model.train(), samples, device, sizes)
    wrapper, wrapped = build_optim_wrapper(model, recipe([], schedule, seed=0)["optim_wrapper"]), wrap(model)

    def act() -> object:
        with wrapper.optim_context(model):
            losses = wrapped(**_fresh(data), mode="loss")
        wrapper.update_params(model.parse_losses(losses)[0])
        return losses

    return act


def _ready(
    model: BaseModel, samples: list[DetDataSample], device: torch.device, sizes: Sizes
) -> tuple[BaseModel, dict[str, Any]]:
    model = model.to(device, memory_format=torch.channels_last)
    pictures = [torch.randint(256, (3, *sizes.picture), dtype=torch.uint8) for _ in samples]
    return model, model.data_preprocessor({"inputs": pictures, "data_samples": samples}, model.training)


def _fresh(data: dict[str, Any]) -> dict[str, Any]:
    """Return the batch, its tensors shared, with proposals that MMDetection's heads may take boxes from."""
    samples = [sample.new() for sample in data["data_samples"]]
    for sample in samples:
        sample.proposals = sample.proposals.new()
    return {**data, "data_samples": samples}


def _sample(sizes: Sizes) -> DetDataSample:
    shape = {"img_shape": sizes.picture, "ori_shape": sizes.picture, "scale_factor": (1.0, 1.0), "img_id": 1}
    return DetDataSample(metainfo=shape)


def _boxes(sizes: Sizes, number: int) -> torch.Tensor:
    return speed._boxes(number, min(sizes.picture), torch.device("cpu"))


if __name__ == "__main__":
    main()
