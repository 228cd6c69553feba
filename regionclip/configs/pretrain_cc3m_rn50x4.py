"""Region-text pretraining of RN50x4 on CC3M and the concepts in its captions."""

_base_ = ["./pretrain_cc3m_rn50.py", "./_base_/models/rn50x4.py"]

model = _base_.rn50x4_pretrainer
train_dataloader = dict(dataset=dict(store="data/pseudo_labels/cc3m_rn50x4"))
custom_hooks = [dict(type="VocabularyHook", bank="data/text_banks/cc3m_concepts_rn50x4.safetensors")]
