"""``cp2fast models``."""

from tests.command_line import cp2fast, refusal


def test_backbones_are_listed_with_family_and_weights() -> None:
    done = cp2fast("models", "convnextv2_a*")
    assert done.returncode == 0
    head, row = done.stdout.splitlines()
    assert head.split()[0] == "model.backbone"
    assert row.split()[0] == "convnextv2_atto"
    assert "ConvNeXt, ConvNeXtV2" in row
    assert "fcmae_ft_in1k" in row


def test_part_of_a_name_is_enough_and_what_matches_nothing_is_refused() -> None:
    names = [line.split()[0] for line in cp2fast("models", "dinov3").stdout.splitlines()[1:]]
    assert "vit_small_patch16_dinov3" in names
    assert all("dinov3" in name for name in names)
    assert "no backbone matches 'resnest*': the nearest is" in refusal(
        cp2fast("models", "resnest*")
    )
