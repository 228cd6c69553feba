"""CC3M's captioned pictures in WebDataset shards with the regions that the teacher labelled."""

_base_ = "./captions_coco.py"

train_dataloader = dict(dataset=dict(captions="data/cc3m", images=None, store="data/pseudo_labels/cc3m_rn50"))
