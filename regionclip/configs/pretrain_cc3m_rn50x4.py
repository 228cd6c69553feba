"""Region-text pretraining of RN50x4 on CC3M and the concepts in its captions."""

_base_ = ["./pretrain_cc3m_rn50.py", "./_base_/models/rn50x4.py"]

model = _base_.rn50x4_pretrainer
