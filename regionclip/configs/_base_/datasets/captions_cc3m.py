"""CC3M's captioned pictures, in shards as img2dataset writes them, with the regions of the stage pseudo_labels."""

_base_ = "./captions_coco.py"

train_dataloader = dict(dataset=dict(captions="datasets/cc3m", images=None))
