"""Settings of a run that takes a second."""

TINY = [
    "model.backbone=test_resnet",
    "model.head_channels=16",
    "model.size=64",
    "model.queue=64",
    "data.batch_size=4",
    "data.workers=0",
    "data.source=torch",
    "train.device=cpu",
]
