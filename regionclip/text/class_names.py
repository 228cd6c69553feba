"""COCO's class names in the splits of open-vocabulary detection (48 base, 17 novel, 80 in all), and LVIS's cleaned."""

from __future__ import annotations

COCO_80 = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
"""All classes in the order of their category ids, which is the label order of every list here."""

COCO_NOVEL = (
    "airplane", "bus", "cat", "dog", "cow", "elephant", "umbrella", "tie", "snowboard", "skateboard", "cup", "knife",
    "cake", "couch", "keyboard", "sink", "scissors",
)  # fmt: skip
"""The 17 classes kept out of training (the split of OVR-CNN, which RegionCLIP's COCO experiments use)."""

_IN_NEITHER = {
    "traffic light", "fire hydrant", "stop sign", "parking meter", "sports ball", "baseball bat", "baseball glove",
    "tennis racket", "wine glass", "hot dog", "potted plant", "dining table", "cell phone", "teddy bear", "hair drier",
}  # fmt: skip

COCO_ALL65 = tuple(name for name in COCO_80 if name not in _IN_NEITHER)
"""Base and novel classes interleaved: the labels of the generalised test."""

COCO_BASE = tuple(name for name in COCO_ALL65 if name not in COCO_NOVEL)
"""The 48 classes with boxes in training."""


def clean_lvis_name(name: str) -> str:
    """Return an LVIS category name as a person writes it: '_' becomes a space, parentheses are deleted.

    Official ``get_cls_names``; "bat_(animal)" becomes "bat animal".
    """
    return name.replace("_", " ").replace("(", "").replace(")", "")
