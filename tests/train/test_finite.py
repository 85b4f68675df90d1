import torch

from cp2fast.train.finite import MOST_UNCHECKED, BadStep, LossRecord, all_finite


def test_the_first_loss_that_is_not_finite_is_found_with_its_images() -> None:
    record = LossRecord(rank=3)
    for step, loss in enumerate([1.0, float("inf"), 2.0, float("nan")], start=5):
        record.note(step, torch.tensor(loss), [10 * step, 10 * step + 1])
    assert record.check() == BadStep(step=6, rank=3, images=[60, 61])
    assert record.check() is None


def test_losses_are_checked_before_they_pile_up() -> None:
    record = LossRecord(rank=0)
    for step in range(MOST_UNCHECKED):
        assert not record.is_full
        record.note(step, torch.tensor(0.0), [])
    assert record.is_full
    assert record.check() is None
    assert not record.is_full


def test_a_long_batch_is_cut_short_in_words() -> None:
    assert str(BadStep(7, 0, [1, 2])) == "step 7, images 1, 2"
    assert str(BadStep(7, 0, list(range(20)))).endswith("14, 15 and 4 more")


def test_one_infinity_among_tensors_is_seen() -> None:
    tensors = [torch.ones(3), torch.zeros(2, 2)]
    assert all_finite(tensors)
    assert not all_finite([*tensors, torch.tensor([1.0, float("-inf")])])
    assert not all_finite([*tensors, torch.tensor([float("nan")])])
