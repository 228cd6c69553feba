"""LVIS v1 with boxes and masks of all 1203 classes, in training and test."""

_base_ = "./lvis_ov.py"

train_pipeline = [
    _base_.load_image,
    _base_.load_masks,
    dict(type="LoadStoredProposals", store="data/proposals/lvis1203_train"),
    dict(type="ProposalBroadcaster", transforms=_base_.random_resize_and_flip),
    _base_.pack,
]
test_pipeline = [
    _base_.load_image,
    _base_.load_boxes,
    dict(type="LoadStoredProposals", store="data/proposals/lvis1203_val"),
    dict(type="ProposalBroadcaster", transforms=_base_.resize),
    _base_.pack,
]
train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            metainfo=dict(classes=_base_.LVIS_ALL),
            ann_file="datasets/lvis/lvis_v1_train.json",
            pipeline=train_pipeline,
        )
    )
)
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
val_dataloader = test_dataloader
