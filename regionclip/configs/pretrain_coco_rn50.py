"""Region-text pretraining of RN50 on COCO's captions and the concepts in them."""

_base_ = [
    "./_base_/models/region_text_pretrainer_rn50.py",
    "./_base_/datasets/captions_coco.py",
    "./_base_/schedules/pretrain_600k.py",
    "./_base_/runtime.py",
]
