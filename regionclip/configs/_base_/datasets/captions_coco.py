"""COCO's captioned pictures with the regions that the stage pseudo_labels made, 3 on each of 32 GPUs."""

train_dataloader = dict(
    batch_size=3,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="ResumableSampler"),
    dataset=dict(
        type="ImageTextRegionDataset",
        captions="datasets/coco/annotations/captions_train2017.json",
        images="datasets/coco/train2017",
        store="artifacts/pseudo_labels",
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
custom_hooks = [dict(type="VocabularyHook", bank="artifacts/text_bank/concepts.safetensors")]
