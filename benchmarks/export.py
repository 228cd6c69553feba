"""What onnxruntime takes for a picture, beside PyTorch, both on the CPU, in turns: RPN, RoI head, scores and NMS.

Run ``python -m benchmarks.export`` on an idle machine. Weights are random; results are compared before they are timed.
With ``--int8 DEMO`` it measures instead what onnxruntime's quantisation makes of the files of a finished demo.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import open_clip
import torch
from mmdet.structures import DetDataSample
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantType,
    quant_pre_process,
    quantize_dynamic,
    quantize_static,
)
from PIL import Image
from torch import Tensor

from benchmarks.paired import RESULTS, Pair, measure
from benchmarks.prompts import DATASET, subject_of
from regionclip import RegionCLIP
from regionclip.checkpoints.clip_folder import ClipFolder, build_clip, save_clip
from regionclip.data.annotations.annotation_files import picture_name
from regionclip.data.annotations.truth import BoxColumns, boxes_by_image
from regionclip.files import atomic_path, write_text
from regionclip.inference.export import export_onnx
from regionclip.inference.files import DetectorFiles
from regionclip.inference.measuring import Subject, measure_found
from regionclip.labelling.proposals import valid_regions
from regionclip.models.assembly import build_detector, build_rpn
from regionclip.models.detector_settings import finetune_settings
from regionclip.params import check_params
from regionclip.workspace.profiles import compose_profile

# Architecture, sides of the picture, regions, names.
SIZES = {"demo": (None, (192, 192), 64, 12), "RN50": ("RN50-quickgelu", (480, 640), 100, 65)}

FILES, KINDS, GROUPS = ("detector", "region_features"), ("float32", "dynamic", "static"), ("novel", "base", "all")
OPERATORS, SHOWN = ["Conv", "Gemm", "MatMul"], 32
Inputs = dict[str, NDArray[np.float32]]


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


class Feed(CalibrationDataReader):
    """Inputs from which static quantisation takes its ranges."""

    def __init__(self, inputs: Iterable[Inputs]) -> None:
        self._left = iter(inputs)

    def get_next(self) -> Inputs | None:
        """The inputs of a picture."""
        return next(self._left, None)


def quantised(file: Path, kind: str, shown: Iterable[Inputs]) -> Path:
    """Make convolutions and matrix products INT8, static by what is shown, or dynamic; ``float32`` leaves them."""
    ready, made = file.with_suffix(".ready"), file.with_suffix(f".{kind}")
    if kind == "float32":
        return file
    quant_pre_process(file, ready, skip_symbolic_shape=True)
    if kind == "dynamic":
        quantize_dynamic(ready, made, op_types_to_quantize=OPERATORS)
    else:
        ways = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "per_channel": True}
        quantize_static(ready, made, Feed(shown), op_types_to_quantize=OPERATORS, **ways)
    return made


def scenes(subject: Subject, text: np.ndarray) -> Iterator[tuple[int, NDArray[np.int64], dict[str, Inputs]]]:
    """A picture's id, the labels of its objects, and what each file takes; scenes have the size of the test already."""
    objects = boxes_by_image(subject.truth)
    for image in subject.truth.images:
        boxes, labels = objects[image["id"]]
        pixels = np.asarray(Image.open(subject.images / picture_name(image)).convert("RGB"), np.float32)
        images, regions = pixels.transpose(2, 0, 1)[None], np.pad(boxes, ((0, 0), (1, 0))).astype(np.float32)
        inputs = {"images": images, "text_embeddings": text}, {"images": images, "boxes": regions}
        yield image["id"], labels, dict(zip(FILES, inputs, strict=True))


def judged(session: onnxruntime.InferenceSession, file: str, subject: Subject, text: np.ndarray) -> Iterator[float]:
    """Give milliseconds of a picture, and by novel, base and all names AP50, or true boxes that features name right."""
    classes, columns, right, seconds = subject.classes, BoxColumns(), defaultdict(list), []
    ids = np.array(classes.ids)
    for image, labels, inputs in scenes(subject, text):
        start = time.thread_time()
        found = session.run(None, inputs[file])
        seconds.append(time.thread_time() - start)
        if file == FILES[0]:
            boxes, scores, places, (count,) = (one[0] if one.ndim > 1 else one for one in found)
            boxes[:, 2:] -= boxes[:, :2]
            for box, score, place in zip(boxes[:count].tolist(), scores[:count].tolist(), places[:count], strict=True):
                columns.add(image, int(ids[place]), box, score=score)
        else:
            nearest = ids[(found[0] @ (text / np.linalg.norm(text, axis=1, keepdims=True)).T).argmax(axis=1)]
            for label, hit in zip(labels.tolist(), (nearest == labels).tolist(), strict=True):
                right[label].append(hit)
    yield 1000 * float(np.median(seconds))
    if file == FILES[0]:
        numbers = measure_found(subject, columns.arrays())
        yield from (100 * numbers[f"ap50_{group}"] for group in GROUPS)
    else:
        for names in (classes.novel_names, classes.base_names, classes.names):
            yield 100 * float(np.mean(np.concatenate([right[key] for key in classes.ids_of(names)])))


def int8(demo: Path) -> None:
    """Quantise the exported files of the demo, measure them on the split val, and write the page."""
    model = RegionCLIP.open(demo, DATASET)
    val, dev = (subject_of(model, demo, split) for split in ("val", "dev"))
    text, rows = model.vocabulary(list(val.classes.names)).embeddings.numpy(), []
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        model.export(Path(folder) / "onnx")
        for file in FILES:
            for kind in KINDS:
                shown = (inputs[file] for _, _, inputs in islice(scenes(dev, text), SHOWN))
                path = quantised(Path(folder) / f"onnx/{file}.onnx", kind, shown)
                numbers = judged(onnxruntime.InferenceSession(path, options), file, val, text)
                values = [path.stat().st_size / 1e6, *numbers]
                rows.append(f"| {file}.onnx | {kind} | " + " | ".join(f"{value:.1f}" for value in values) + " |")
                print(rows[-1], flush=True)
    lines = [
        "# INT8 of the exported files",
        "",
        "`python -m benchmarks.export --int8 DEMO`: convolutions and matrix products in INT8 by onnxruntime's own",
        f"quantisation, dynamic, or static by {SHOWN} pictures of the split dev (QDQ, weights by channel). On",
        "the split val of coco: AP50 of the detector; true boxes that region features name right, percent. CPU time of",
        f"a picture on one thread, median. onnxruntime {onnxruntime.__version__}.",
        "",
        "| file | kind | MB | CPU, ms | novel | base | all |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    write_text(RESULTS / "export_int8.md", "\n".join([*lines, *rows, ""]))


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="of each pair")
    parser.add_argument("--out", type=Path, default=RESULTS / "export.md", help="the page")
    parser.add_argument("--int8", type=Path, metavar="DEMO", help="measure INT8 in this folder, where the demo has run")
    chosen = parser.parse_args()
    if chosen.int8:
        return int8(chosen.int8)
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
