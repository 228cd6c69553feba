"""Test of LVIS v1's 1203 classes on the true boxes."""

_base_ = "./lvis_classes.py"

test_pipeline = [
    _base_.load_image,
    _base_.load_boxes,
    dict(type="LoadGroundTruthAsProposals"),
    dict(type="ProposalBroadcaster", transforms=_base_.resize),
    _base_.pack,
]
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="NamedBoxesDataset",
        metainfo=dict(classes=_base_.LVIS_ALL),
        ann_file="datasets/lvis/lvis_v1_val.json",
        data_prefix=dict(img="datasets/coco/"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_evaluator = dict(
    type="FederatedLVISMetric",
    ann_file="datasets/lvis/lvis_v1_val.json",
    metric="bbox",
    max_detections=300,
    # As the official loader: pictures without annotations are left out.
    images="labelled",
)
test_cfg = dict(type="TestLoop")
