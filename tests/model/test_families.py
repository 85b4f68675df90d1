"""Which of timm's models are backbones here, and how one is found."""

from __future__ import annotations

import pytest
import timm

from cp2fast.errors import UserError
from cp2fast.model.families import FAMILIES, family_of, matching, supported


def test_every_family_is_one_of_timms_modules_with_models_in_it() -> None:
    modules = set(timm.list_modules())
    assert {family.module for family in FAMILIES} <= modules
    titles = {family.title for family in supported().values()}
    assert titles == {family.title for family in FAMILIES}


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("resnext50_32x4d", "ResNet, ResNeXt"),
        ("convnextv2_atto", "ConvNeXt, ConvNeXtV2"),
        ("vit_small_patch14_reg4_dinov2", "ViT (DINO, DINOv2)"),
        ("vit_small_patch16_dinov3", "ViT, rotary (DINOv3)"),
        ("mobilenetv4_conv_small", "MobileNetV3, MobileNetV4"),
    ],
)
def test_a_model_is_of_its_family(name: str, title: str) -> None:
    assert family_of(name).title == title


def test_names_are_found_as_a_shell_finds_files() -> None:
    assert {"convnext_atto", "convnextv2_tiny"} <= set(matching("convnext*"))
    assert set(matching("convnext_?????")) >= {"convnext_femto", "convnext_large"}
    with pytest.raises(UserError, match=r"no backbone matches 'convnex_\*': the nearest is conv"):
        matching("convnex_*")
    with pytest.raises(UserError, match=r"no backbone matches 'foo\*': cp2fast models lists all"):
        matching("foo*")


def test_a_model_without_usable_maps_is_refused_otherwise_than_a_name_that_is_none() -> None:
    with pytest.raises(UserError, match="family without feature maps that can be used here"):
        family_of("mixer_b16_224")
    with pytest.raises(UserError, match="not a backbone that timm knows: the nearest is convnext_"):
        family_of("convnext_tinny")
