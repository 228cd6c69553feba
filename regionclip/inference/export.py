"""The detector, and its region features, as ONNX files that onnxruntime runs, with what their user has to know."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmcv.cnn import fuse_conv_bn
from mmdet.models.roi_heads import StandardRoIHead
from mmengine.config import ConfigDict
from mmengine.model import BaseModel
from torch import Tensor, nn

from regionclip.checkpoints.clip_folder import ClipFolder
from regionclip.data.pictures import LEAST_SIDE
from regionclip.errors import InputError
from regionclip.files import atomic_dir, require_own
from regionclip.inference.files import DetectorFiles
from regionclip.models.fused_roi_head import FusedRoIHead, fuse
from regionclip.models.proposal_score_roi_head import voted
from regionclip.regions.matching import cosine_logits

_OPSET = 18  # torch's least; RoIAlign on half pixels needs 16
_IMAGES = {0: "batch", 2: "height", 3: "width"}
_DETECTOR = "detector.onnx"
_FOUND = ("boxes", "scores", "labels", "count")
_RAW = ("proposal_boxes", "proposal_scores")
_EVERY = torch.finfo(torch.float32).min

# ONNX has NMS of all pictures and classes in one node, whose rows of indices are as many as boxes stay. A mask has a
# size that is known beforehand.
torch.library.define(
    "regionclip::nms_mask", "(Tensor boxes, Tensor scores, int most, float iou, float above) -> Tensor"
)


@torch.library.register_fake("regionclip::nms_mask")
def _(boxes: Tensor, scores: Tensor, most: int, iou: float, above: float) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)


def _nms_mask(boxes: Any, scores: Any, most: int, iou: float, above: float) -> Any:
    """Which of boxes (B, N, 4) stay by their scores (B, K, N) ``above`` a threshold, ``most`` of each class: mask."""
    from onnxscript import opset18 as op

    limits = op.Constant(value_ints=[most]), op.Constant(value_floats=[iou]), op.Constant(value_floats=[above])
    kept = op.NonMaxSuppression(boxes, scores, *limits)
    no, yes = (op.Cast(op.Constant(value_int=value), to=9) for value in (0, 1))
    return op.ScatterND(op.Expand(no, op.Shape(scores)), kept, op.Expand(yes, op.Shape(kept, start=0, end=1)))


class _Regions(nn.Module):
    """Pictures (B, 3, H, W) and boxes (N, 5), picture and xyxy, to embeddings (N, D), un-normalised."""

    def __init__(self, detector: BaseModel) -> None:
        super().__init__()
        self.detector = _plain(detector)
        head = self.detector.roi_head
        # The embedding itself stands in the place of its logits.
        head.bbox_head.fc_cls = nn.Identity()

    def maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the detector's maps."""
        return self.detector.extract_feat(_normalised(self.detector, images))

    def read(self, maps: tuple[Tensor, ...], boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embeddings and the deltas (N, 4)."""
        read = StandardRoIHead._bbox_forward(self.detector.roi_head, maps, boxes)
        return read["cls_score"], read["bbox_pred"]

    def forward(self, images: Tensor, boxes: Tensor) -> Tensor:
        return self.read(self.maps(images), boxes)[0]


class _Detector(_Regions):
    """Pictures (B, 3, H, W) and text embeddings (K, D) to detections; each tensor's first axis is the picture's.

    Sizes do not depend on values: what is not there has score 0, or logit -inf, and stands last.
    """

    def __init__(self, rpn: BaseModel, detector: BaseModel, proposals: int) -> None:
        super().__init__(detector)
        self.rpn, self.proposals = _plain(rpn), proposals
        self.temperature = detector.roi_head.bbox_head.fc_cls.temperature

    def forward(self, images: Tensor, text_embeddings: Tensor) -> tuple[Tensor, ...]:
        boxes, scores = self._classify(images, text_embeddings, *self._propose(images))
        cfg = self.detector.roi_head.test_cfg
        return (boxes, scores) if _is_soft(self.detector) else _best(boxes, scores, cfg)

    def _propose(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """As `LogitRPNHead.predict` and `valid_regions`: boxes (B, P, 4) and logits (B, P)."""
        head, cfg, found = self.rpn.bbox_head, self.rpn.bbox_head.test_cfg, []
        maps, deltas = head(self.rpn.extract_feat(_normalised(self.rpn, images)))
        anchors = head.prior_generator.grid_priors([level.shape[-2:] for level in maps], device=images.device)
        for level, offsets, places in zip(maps, deltas, anchors, strict=True):
            # A small picture has fewer anchors than are taken; those that fill up have no size.
            logits = F.pad(level.permute(0, 2, 3, 1).flatten(1), (0, cfg.nms_pre), value=-torch.inf)
            offsets = F.pad(offsets.permute(0, 2, 3, 1).reshape(images.shape[0], -1, 4), (0, 0, 0, cfg.nms_pre))
            logits, order = logits.topk(cfg.nms_pre)
            places = F.pad(places, (0, 0, 0, cfg.nms_pre))[order]
            boxes = _decoded(head.bbox_coder, places, _rows(offsets, order), images)
            solid = (boxes[..., 2:] - boxes[..., :2] > cfg.min_bbox_size).all(dim=-1)
            logits = logits.masked_fill(~solid, -torch.inf)
            limits = (cfg.max_per_img, cfg.nms.iou_threshold, _EVERY)
            kept = torch.ops.regionclip.nms_mask(boxes, logits[:, None], *limits)[:, 0]
            found.append((boxes, logits.masked_fill(~kept, -torch.inf)))
        boxes, logits = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
        logits, order = logits.topk(min(self.proposals, cfg.max_per_img, logits.shape[1]))
        return _rows(boxes, order), logits

    def _classify(self, images: Tensor, text: Tensor, boxes: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """As `ProposalScoreRoIHead`: refined boxes (B, P, 4) and scores (B, P, K)."""
        head, shape = self.detector.roi_head, logits.shape
        numbers = torch.arange(shape[0], dtype=boxes.dtype, device=boxes.device)[:, None, None]
        rois = torch.cat([numbers.expand(-1, shape[1], 1), boxes], dim=-1).flatten(0, 1)
        maps = self.maps(images)
        embeddings, deltas = self.read(maps, rois)
        classes = F.pad(cosine_logits(embeddings, text, self.temperature), (0, 1))
        if isinstance(head, FusedRoIHead):
            frozen = cosine_logits(head.frozen_embeddings(maps, rois), text, self.temperature)
            classes = fuse(classes, F.pad(frozen, (0, 1)), head.shares(cosine_logits(head.frozen_classes, text, 1.0)))
        scores = classes.softmax(dim=-1)[:, :-1].unflatten(0, shape)
        mode = getattr(head, "score_mode", "none")
        if mode != "none":
            objectness = logits.sigmoid() if mode == "sigmoid" else logits.clamp(min=0)
            scores = (scores * objectness[..., None]).sqrt()
        boxes = _decoded(head.bbox_head.bbox_coder, boxes, deltas.unflatten(0, shape), images)
        if (iou := getattr(head, "box_voting", None)) is not None:
            boxes = voted(boxes, logits, iou)
        return boxes, scores.masked_fill(logits[..., None] == -torch.inf, 0)


def _best(boxes: Tensor, scores: Tensor, cfg: ConfigDict) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `best_detections`: boxes (B, M, 4), scores and labels (B, M), and how many are detections (B,)."""
    slots, most, scores = boxes.shape[1], cfg.max_per_img, scores.transpose(1, 2)
    kept = torch.ops.regionclip.nms_mask(boxes, scores, slots, cfg.nms.iou_threshold, cfg.score_thr)
    # Few names may have fewer boxes than the limit.
    scores, order = F.pad(scores.masked_fill(~kept, -1).flatten(1), (0, most), value=-1).topk(most)
    boxes, labels = _rows(boxes, order % slots), order // slots
    solid = (boxes[..., 2:] > boxes[..., :2]).all(dim=-1)
    scores, order = scores.masked_fill(~solid, -1).topk(most)
    none = scores < 0
    boxes, labels = _rows(boxes, order).masked_fill(none[..., None], 0), labels.gather(1, order).masked_fill(none, -1)
    return boxes, scores.masked_fill(none, 0), labels, (~none).sum(dim=1)


def _rows(table: Tensor, order: Tensor) -> Tensor:
    """Rows (B, n, 4) of a table (B, N, 4)."""
    return table.gather(1, order[..., None].expand(-1, -1, 4))


def _decoded(coder: Any, boxes: Tensor, deltas: Tensor, images: Tensor) -> Tensor:
    """Apply deltas to boxes, (B, n, 4) each; clipped to the picture."""
    moved = coder.decode(boxes.flatten(0, 1), deltas.flatten(0, 1), max_shape=images.shape[-2:])
    return moved.unflatten(0, boxes.shape[:2])


def _normalised(model: BaseModel, images: Tensor) -> Tensor:
    """RGB pictures as the model's preprocessor makes them of its pipeline's BGR."""
    settings, (height, width) = model.data_preprocessor, images.shape[-2:]
    images = images if settings._channel_conversion else images.flip(1)
    images = (images - settings.mean) / settings.std
    if settings.pad_size_divisor == 1:
        return images
    rest = -width % settings.pad_size_divisor, -height % settings.pad_size_divisor
    return F.pad(images, (0, rest[0], 0, rest[1]), value=settings.pad_value)


def _plain(model: BaseModel) -> BaseModel:
    """A copy to export, with the backbone's batch norms in the convolutions before them: a quarter less to trace."""
    model = copy.deepcopy(model).to("cpu", torch.float32, memory_format=torch.contiguous_format).eval()
    fuse_conv_bn(model.backbone)
    return model


def _is_soft(detector: BaseModel) -> bool:
    return detector.roi_head.test_cfg.nms.type == "soft_nms"


def export_onnx(
    files: DetectorFiles,
    rpn: BaseModel,
    detector: BaseModel,
    folder: str | Path,
    names: Mapping[str, Tensor] | None = None,
) -> None:
    """Write ``detector.onnx``, ``region_features.onnx`` and a README that tells how to use them, all or none.

    Both take pictures of any one size, float32 (B, 3, H, W), RGB from 0 to 255, resized as the README says; boxes are
    in their pixels. The detector takes text embeddings (K, D) of any norm too. It gives ``boxes`` (B, M, 4) xyxy,
    ``scores`` and ``labels`` (B, M), best first, and ``count`` (B,), how many of the M rows are detections. ONNX has
    no soft-NMS: with it, the detector gives ``proposal_boxes`` (B, P, 4) and ``proposal_scores`` (B, P, K) instead, to
    which threshold and NMS are still to be applied. Region features take ``boxes`` (N, 5), a picture's number and
    xyxy, and give ``features`` (N, D), un-normalised.

    Args:
        files: What the models were built from.
        rpn: The trained RPN; see `trained_rpn`.
        detector: The trained detector; its vocabulary does not count.
        folder: Where to write; an earlier export is replaced.
        names: Embeddings (D,) by name, written as ``text_embeddings.npy`` (K, D) and ``names.txt``, in that order.

    Raises:
        InputError: The packages of the extra ``export`` are not installed, ``folder`` holds something else, or the
            detector is not a ResNet's.
    """
    require_own(folder, _DETECTOR)
    if not getattr(detector.roi_head.bbox_head, "attention_pool", None):
        mend = "use it from Python or by the service"
        raise InputError("only detectors of CLIP ResNets are exported", file=files.detector, mend=mend)
    facts, head = _facts(files, detector), detector.roi_head.bbox_head
    picture = torch.zeros(2, 3, 96, 128)
    text = torch.ones(5, head.attention_pool.c_proj.out_features)
    regions = torch.tensor([[0.0, 8.0, 8.0, 64.0, 64.0], [1.0, 16.0, 8.0, 80.0, 64.0], [1.0, 0.0, 0.0, 96.0, 90.0]])
    shapes = {"images": _IMAGES, "text_embeddings": {0: "classes"}}
    whole = _Detector(rpn, detector, files.params.detection.test_proposals)
    with atomic_dir(folder) as beside:
        outputs = _RAW if _is_soft(detector) else _FOUND
        _write(whole, (picture, text), shapes, outputs, facts, beside / _DETECTOR)
        shapes = {"images": _IMAGES, "boxes": {0: "regions"}}
        _write(_Regions(detector), (picture, regions), shapes, ("features",), facts, beside / "region_features.onnx")
        (beside / "README.md").write_text(_readme(facts), encoding="utf-8")
        if names:
            np.save(beside / "text_embeddings.npy", torch.stack([*names.values()]).numpy(force=True))
            (beside / "names.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def _write(
    model: nn.Module,
    example: tuple[Tensor, ...],
    shapes: dict[str, dict[int, str]],
    outputs: tuple[str, ...],
    facts: dict[str, str],
    file: Path,
) -> None:
    try:
        from onnx_ir.passes.common import ClearMetadataAndDocStringPass
        from onnxscript import opset18  # noqa: F401
    except ImportError:
        problem, mend = "the packages of the extra `export` are not installed", "run `pip install 'regionclip[export]'`"
        raise InputError(problem, mend=mend) from None
    dynamic = {name: dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for name, axes in shapes.items()}
    with torch.no_grad():
        program = torch.export.export(model, example, dynamic_shapes=dynamic)
    made = torch.onnx.export(
        program,
        opset_version=_OPSET,
        input_names=list(shapes),
        output_names=outputs,
        dynamic_shapes=shapes,
        custom_translation_table={torch.ops.regionclip.nms_mask.default: _nms_mask},
        verbose=False,
    )
    # It names files of this machine.
    ClearMetadataAndDocStringPass()(made.model)
    made.model.producer_name, made.model.producer_version = "regionclip", version("regionclip")
    made.model.metadata_props.update(facts)
    made.save(file, external_data=False)


def _facts(files: DetectorFiles, detector: BaseModel) -> dict[str, str]:
    """What both files say of themselves (``metadata_props``); names of params where it is one."""
    params, target = files.params, files.params.finetune.sets[files.dataset]
    settings, sizes = detector.data_preprocessor, params.detection
    mean, std = (
        [round(number, 7) for number in (values if settings._channel_conversion else values.flip(0)).flatten().tolist()]
        for values in (settings.mean, settings.std)
    )
    facts = {
        "dataset": files.dataset,
        "initialisation": files.initialisation,
        "profile": params.profile,
        "license": "code: Apache-2.0; weights: those of the CLIP, the pictures and the texts that they were made from",
        "test_short_side": sizes.test_short_side,
        "max_size": sizes.max_size,
        "least_side": min(LEAST_SIDE, sizes.test_short_side),
        "resize": "Pillow, bilinear",
        "inputs": "RGB, 0 to 255; mean and std are applied inside",
        "mean": mean,
        "std": std,
        "embedding_width": detector.roi_head.bbox_head.attention_pool.c_proj.out_features,
        "clip_sha256": ClipFolder.open(files.clip).weights_sha256,
        "templates": params.text_bank.templates,
        "fusion": target.fusion and target.fusion.model_dump(),
        **{key: getattr(target, key) for key in ("score_mode", "score_threshold", "nms", "nms_iou", "max_detections")},
    }
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()}


def _readme(facts: dict[str, str]) -> str:
    nms = facts["nms"]
    return _README.format(outputs=_OUTPUTS[nms], code=_CODE[nms], note=_NOTES[nms].format(**facts), **facts)


_OUTPUTS = {
    "hard": "`boxes` (B, M, 4), `scores` and `labels` (B, M), best first; `count` (B,): so many of M are detections",
    "soft": "`proposal_boxes` (B, P, 4), `proposal_scores` (B, P, K)",
}
_CODE = {
    "hard": """boxes, scores, labels, count = (output[0] for output in session.run(None, inputs))
boxes = boxes[:count] * np.tile(sides / size, 2)  # x1, y1, x2, y2 in the picture; labels are rows of the embeddings""",
    "soft": """boxes, scores = (output[0] for output in session.run(None, inputs))
boxes = boxes * np.tile(sides / size, 2)  # x1, y1, x2, y2 in the picture; column k of scores is that of embedding k""",
}
_NOTES = {
    "hard": "",
    "soft": """
This detector was measured with gaussian soft-NMS, which ONNX does not have. So all proposals come with their scores:
keep scores above {score_threshold}, apply NMS to each name (`regionclip.mmcv_ops.soft_nms`, method gaussian, sigma 0.5,
or any other), and keep the {max_detections} best.
""",
}
_README = """# Open-vocabulary detector of {dataset}, as ONNX

RegionCLIP, trained from {initialisation} with the profile {profile}.

| file | inputs | outputs |
|---|---|---|
| `detector.onnx` | `images`, `text_embeddings` (K, {embedding_width}) | {outputs} |
| `region_features.onnx` | `images`, `boxes` (N, 5): picture, x1, y1, x2, y2 | `features` (N, {embedding_width}) |

`images` are float32 (B, 3, H, W), pictures of one size, RGB from 0 to 255, resized as below; boxes are in their pixels.
Text embeddings are float32, of any norm, and come from the CLIP whose weights have the SHA-256
`{clip_sha256}`:
the mean over the prompts `{templates}`, as `regionclip.text.prompts.embed_names` gives it. A class of the training is
known by its embedding (`fusion`, the pretrained head's share, goes by that). Region features are compared with them by
cosine. Both files hold the numbers of the code as metadata.

```python
import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession("detector.onnx")
facts = session.get_modelmeta().custom_metadata_map
short, longest, least = (int(facts[key]) for key in ("test_short_side", "max_size", "least_side"))

picture = ImageOps.exif_transpose(Image.open("picture.png")).convert("RGB")
sides = np.array(picture.size)
scaled = sides * (short / sides.min())
scaled *= min(1, longest / scaled.max())
size = np.maximum((scaled + 0.5).astype(int), least)
resized = picture.resize(size.tolist(), Image.Resampling.BILINEAR)
images = np.asarray(resized, np.float32).transpose(2, 0, 1)[None]

inputs = {{"images": images, "text_embeddings": np.load("text_embeddings.npy")}}
{code}
```
{note}
License: {license}.
"""
