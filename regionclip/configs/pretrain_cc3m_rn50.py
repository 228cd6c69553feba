"""Region-text pretraining of RN50 on CC3M and the concepts in its captions."""

_base_ = [
    "./_base_/models/region_text_pretrainer_rn50.py",
    "./_base_/datasets/captions_cc3m.py",
    "./_base_/schedules/pretrain_600k.py",
    "./_base_/runtime.py",
]
