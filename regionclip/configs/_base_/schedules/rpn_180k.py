"""Detectron2's 1x schedule for LVIS v1: twice the steps of COCO's."""

_base_ = "./rpn_90k.py"

train_cfg = dict(max_iters=180000)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type="MultiStepLR", by_epoch=False, milestones=[120000, 160000], gamma=0.1),
]
