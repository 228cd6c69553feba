"""Region-text pretraining of RN50x4 on COCO's captions and the concepts in them."""

_base_ = ["./pretrain_coco_rn50.py", "./_base_/models/rn50x4.py"]

model = _base_.rn50x4_pretrainer
