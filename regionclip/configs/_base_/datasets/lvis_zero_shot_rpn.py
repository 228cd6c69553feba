"""Test of LVIS v1's 1203 classes on the proposals of the LVIS-base FPN, kept up to an IoU of 0.9."""

_base_ = "./lvis_zero_shot_gt.py"

test_pipeline = [
    _base_.load_image,
    _base_.load_boxes,
    dict(type="LoadStoredProposals", store="data/proposals/zero_shot_lvis_val"),
    dict(type="ProposalBroadcaster", transforms=_base_.resize),
    _base_.pack,
]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
