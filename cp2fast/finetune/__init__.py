"""From pretrained weights to a segmentation network, its mIoU and its predictions."""
