import torch

from cp2fast.finetune.loader import batches_of_one_size


def test_images_of_one_size_that_follow_each_other_are_a_batch() -> None:
    sizes = [(4, 4), (4, 4), (4, 4), (4, 5), (4, 4)]
    pairs = [(torch.zeros(*size, 3), number) for number, size in enumerate(sizes)]
    batches = [[number for _, number in batch] for batch in batches_of_one_size(pairs, 2)]
    assert batches == [[0, 1], [2], [3], [4]]
