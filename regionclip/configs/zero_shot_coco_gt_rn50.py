"""Zero-shot detection on COCO with RegionCLIP RN50 on the true boxes."""

_base_ = [
    "./_base_/models/zero_shot_rn50.py",
    "./_base_/datasets/coco_zero_shot_gt.py",
    "./_base_/runtime.py",
]

custom_hooks = [dict(type="VocabularyHook", bank="data/text_banks/coco65_rn50.safetensors")]
