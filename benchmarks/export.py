"""What onnxruntime takes for a picture, beside PyTorch, both on the CPU, in turns: RPN, RoI head, scores and NMS.

Run ``python -m benchmarks.export`` on an idle machine. Weights are random; results are compared before they are timed.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import open_clip
import torch
from mmdet.structures import DetDataSample
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch import Tensor

from benchmarks.paired import RESULTS, Pair, measure
from regionclip.checkpoints.clip_folder import ClipFolder, build_clip, save_clip
from regionclip.files import atomic_path
from regionclip.inference.export import export_onnx
from regionclip.inference.files import DetectorFiles
from regionclip.labelling.proposals import valid_regions
from regionclip.models.assembly import build_detector, build_rpn
from regionclip.models.detector_settings import finetune_settings
from regionclip.params import check_params
from regionclip.workspace.profiles import compose_profile

# Architecture, sides of the picture, regions, names.
SIZES = {"demo": (None, (192, 192), 64, 12), "RN50": ("RN50-quickgelu", (480, 640), 100, 65)}


def pair(size: str, folder: Path) -> Pair:
    """The demo's detector on another CLIP, in PyTorch and exported, on one picture of noise."""
    name, (height, width), regions, names = SIZES[size]
    params = check_params(compose_profile("demo"), "demo")
    sizes = params.detection.model_copy(update={"test_proposals": regions})
    params = params.model_copy(update={"detection": sizes})
    architecture: dict[str, Any] = open_clip.get_model_config(name) if name else params.teacher.architecture.open_clip()
    save_clip(folder / "clip", architecture, build_clip(architecture).state_dict(), {"stage_digest": "0" * 64})
    clip, target = ClipFolder.open(folder / "clip"), params.finetune.sets["coco"]
    rpn = build_rpn(clip, params.rpn, nms_iou=params.rpn.nms_iou, proposals=params.rpn.proposals)
    detector = build_detector(clip, finetune_settings(params.finetune, target, names))
    text = torch.randn(names, architecture["embed_dim"])
    detector.roi_head.bbox_head.fc_cls.set_vocabulary(text)
    files = DetectorFiles("coco", "regionclip", params, folder / "clip", folder, folder)
    export_onnx(files, rpn, detector, folder / "onnx")
    session = onnxruntime.InferenceSession(folder / "onnx/detector.onnx")
    rpn, detector = (model.to(memory_format=torch.channels_last).eval() for model in (rpn, detector))
    pixels = torch.randint(256, (3, height, width), dtype=torch.uint8)
    inputs = {"images": pixels.flip(0).float()[None].numpy(), "text_embeddings": text.numpy()}

    def plain() -> InstanceData:
        return _detections(rpn, detector, pixels, regions)

    def ours() -> list[np.ndarray]:
        return session.run(None, inputs)

    wanted, (boxes, scores, labels, count) = plain(), (output[0] for output in ours())
    if count != len(wanted) or labels[:count].tolist() != wanted.labels.tolist():
        raise SystemExit(f"onnxruntime finds {count}, PyTorch {len(wanted)}, or others")
    both = ((boxes[:count], wanted.bboxes.numpy()), (scores[:count], wanted.scores.numpy()))
    difference = max(float(np.abs(found - known).max() / np.abs(known).max()) for found, known in both)
    return Pair(f"{size}, {width} x {height} pixels, {regions} regions, {names} names", plain, ours, difference)


@torch.inference_mode()
def _detections(rpn: BaseModel, detector: BaseModel, pixels: Tensor, most: int) -> InstanceData:
    shape = tuple(pixels.shape[1:])
    sample = DetDataSample(metainfo={"img_shape": shape, "ori_shape": shape, "scale_factor": (1.0, 1.0)})
    boxes, logits = valid_regions(rpn.test_step({"inputs": [pixels], "data_samples": [sample]})[0])
    sample.proposals = InstanceData(bboxes=torch.tensor(boxes[:most]), scores=torch.tensor(logits[:most]))
    return detector.test_step({"inputs": [pixels], "data_samples": [sample]})[0].pred_instances


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="of each pair")
    parser.add_argument("--out", type=Path, default=RESULTS / "export.md", help="the page")
    chosen = parser.parse_args()
    versions = f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}, threads {torch.get_num_threads()}"
    lines = [
        "# onnxruntime beside PyTorch on a CPU",
        "",
        f"`python -m benchmarks.export --rounds {chosen.rounds}`: the whole detector on one picture, in turns;",
        f"medians. Weights are random. {versions}.",
        "",
        "| detector | PyTorch, s | onnxruntime, s | times faster | least to largest | deviation |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for size in SIZES:
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as folder:
            found = measure(pair(size, Path(folder)), chosen.rounds, torch.device("cpu"))
        seconds = f"{found['plain_seconds']:.3g} | {found['seconds']:.3g} | {found['ratio']:.3g}"
        span = f"{found['least_ratio']:.3g} to {found['largest_ratio']:.3g}"
        lines.append(f"| {found['work']} | {seconds} | {span} | {found['difference']:.1e} |")
        print(lines[-1])
    with atomic_path(chosen.out) as beside:
        beside.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
