"""Self-supervised pretraining of whole segmentation networks by copy-paste contrast, made fast.

The method is CP2 (Wang et al., "CP2: Copy-Paste Contrastive Pretraining for Semantic
Segmentation", ECCV 2022).

Shape legend, used as suffixes throughout (``logits_BXY``): B samples, S image side, C feature
channels, X query positions, Y key positions, K queue length, H and W a source image's size,
V the four views of a sample (query and key foreground, query and key background).
"""

__version__ = "0.1.0"
