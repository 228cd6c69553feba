"""Zero-shot detection on COCO with RegionCLIP RN50 on the proposals of an RPN trained on LVIS's base classes."""

_base_ = [
    "./_base_/models/zero_shot_rn50.py",
    "./_base_/datasets/coco_zero_shot_rpn.py",
    "./_base_/runtime.py",
]

model = dict(roi_head=dict(type="ProposalScoreRoIHead", score_mode="official"))
custom_hooks = [dict(type="VocabularyHook", bank="data/text_banks/coco65_rn50.safetensors")]
