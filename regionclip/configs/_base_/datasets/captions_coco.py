"""COCO's captioned pictures with the regions that the teacher labelled, 3 on each of 32 GPUs."""

train_dataloader = dict(
    batch_size=3,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="ResumableSampler"),
    dataset=dict(
        type="ImageTextRegionDataset",
        captions="data/coco/annotations/captions_train2017.json",
        images="data/coco/train2017",
        store="data/pseudo_labels/coco_rn50",
        # Only the vocabulary and the length of 77 tokens count, which all of OpenAI's CLIPs share.
        tokenizer="RN50",
        regions_per_image=100,
        scales=[800],
        max_size=1333,
        interpolation="bicubic",
        flip_prob=0.5,
        seed=0,
    ),
)
