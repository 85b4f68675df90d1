"""What a setting takes, and what is wrong with a value, without a word of Python."""

from pathlib import Path

import pytest

from cp2fast import recipes
from cp2fast.config import FinetuneSettings, PretrainSettings, Section
from cp2fast.errors import UserError
from cp2fast.wording import counted, describe


def described(kind: type[Section]) -> dict[str, tuple[str, str]]:
    return {setting.key: (str(setting.values), setting.default) for setting in describe(kind)}


def refusal(kind: type[Section], override: str) -> str:
    with pytest.raises(UserError) as caught:
        recipes.load(kind, None, [override])
    return str(caught.value)


def test_a_setting_is_described_with_its_bounds_and_a_default_as_it_is_typed() -> None:
    pretrain, finetune = described(PretrainSettings), described(FinetuneSettings)
    assert pretrain["train.steps"] == ("whole number > 0", "none")
    assert pretrain["data.workers"] == ("whole number >= 0", "none")
    assert pretrain["data.max_bad_fraction"] == ("number, 0 to 1", "0.01")
    assert pretrain["model.momentum"] == ("number >= 0 and < 1", "0.999")
    assert pretrain["data.root"] == ("path", "none")
    assert pretrain["model.init"] == ("text", "none")
    assert pretrain["augment.crop_area"] == ("list of 2 numbers > 0 and <= 1", "[0.2, 1]")
    assert pretrain["augment.flip"] == ("number, 0 to 1", "0.5")
    assert finetune["model.head"] == ("aspp|fcn|linear|segformer", "none")
    assert finetune["model.head_channels"] == ("whole number > 0", "none")
    assert finetune["evaluation.scales"] == ("list of numbers > 0", "[1]")
    assert finetune["evaluation.stride"] == ("number > 0 and <= 1", "0.6667")
    assert finetune["data.classes"] == ("list of texts", "none")


@pytest.mark.parametrize(
    ("kind", "override", "message"),
    [
        (PretrainSettings, "train.steps=abc", "train.steps=abc is not a whole number ("),
        (PretrainSettings, "train.steps=1.5", "train.steps=1.5 is not a whole number ("),
        (PretrainSettings, "train.epochs=yes", "train.epochs=yes is not a whole number ("),
        (PretrainSettings, "train.lr=fast", "train.lr=fast is not a number ("),
        (PretrainSettings, "train.lr=null", "train.lr=null is not a number ("),
        (PretrainSettings, "train.lr=.inf", "train.lr=.inf is not a finite number ("),
        (PretrainSettings, "train.epochs=0", "train.epochs=0 must be more than 0 ("),
        (PretrainSettings, "data.workers=-1", "data.workers=-1 must be at least 0 ("),
        (PretrainSettings, "model.momentum=1", "model.momentum=1 must be less than 1 ("),
        (FinetuneSettings, "evaluation.stride=2", "evaluation.stride=2 must be at most 1 ("),
        (PretrainSettings, "train.compile=never", "train.compile=never is not auto, on or off ("),
        (
            PretrainSettings,
            "data.source=on",
            "data.source=on is not auto, turbo, dali, ffcv or torch (",
        ),
        (
            FinetuneSettings,
            "model.head=foo",
            "model.head=foo is not aspp, fcn, linear or segformer (",
        ),
        (
            PretrainSettings,
            "augment.crop_area=[1, 0.2]",
            "augment.crop_area=[1, 0.2] must go from low to high (",
        ),
        (PretrainSettings, "augment.hue=[0.1, -0.1]", "augment.hue=[0.1, -0.1] must go from low"),
        (
            PretrainSettings,
            "augment.crop_area=0.2",
            "augment.crop_area=0.2 must be a list of 2 (",
        ),
        (
            PretrainSettings,
            "augment.mean=[0.5, 0.5]",
            "augment.mean=[0.5, 0.5] must be a list of 3 (",
        ),
        (
            PretrainSettings,
            "augment.sigma=[0.1, 3]",
            "augment.sigma=[0.1, 3]: 3 must be at most 2 (",
        ),
        (PretrainSettings, "augment.std=[0, 1, 1]", "augment.std=[0, 1, 1]: 0 must be at least"),
        (PretrainSettings, "augment.turn=1.5", "augment.turn=1.5 must be at most 1 ("),
        (PretrainSettings, "augment.brightness=-1", "augment.brightness=-1 must be at least 0 ("),
        (PretrainSettings, "augment.hue=[-0.6, 0.2]", "augment.hue=[-0.6, 0.2]: -0.6 must be at"),
        (PretrainSettings, "augment.contrast=[1, x]", "augment.contrast=[1, x]: x is not a number"),
        (
            PretrainSettings,
            "augment.brightness=[0.6, 1.4, 2]",
            "augment.brightness=[0.6, 1.4, 2] must be a list of 2 (",
        ),
        (PretrainSettings, "augment.contrast=2000", "augment.contrast=2000 must be at most 1000 ("),
        (
            PretrainSettings,
            "augment.saturation=[0, 1.0e+39]",
            "augment.saturation=[0, 1.0e+39]: 1.0e+39 must be at most 1000 (",
        ),
        (PretrainSettings, "augment.hue=[0.2]", "augment.hue=[0.2] must be a list of 2 ("),
        (PretrainSettings, "augment.hue={a: 1}", "augment.hue={a: 1} is not a number ("),
        (PretrainSettings, "data.range=[1, x]", "data.range=[1, x]: x is not a number ("),
        (PretrainSettings, "data.range=1,x", "data.range=1,x: x is not a number ("),
        (PretrainSettings, "data.range=all", "data.range=all is not auto or type ("),
        (PretrainSettings, "data.bands=1,x", "data.bands=1,x: x is not a whole number ("),
        (
            FinetuneSettings,
            "evaluation.scales=0.5",
            "evaluation.scales=0.5 is not a list: write [0.5] (",
        ),
        (FinetuneSettings, "evaluation.scales=[]", "evaluation.scales=[] is empty ("),
        (
            FinetuneSettings,
            "evaluation.scales=[1, x]",
            "evaluation.scales=[1, x]: x is not a number (",
        ),
        (
            FinetuneSettings,
            "evaluation.scales=[1, -2]",
            "evaluation.scales=[1, -2]: -2 must be more than 0 (",
        ),
    ],
)
def test_a_wrong_value_is_refused_in_plain_words(
    kind: type[Section], override: str, message: str
) -> None:
    assert refusal(kind, override).startswith(message)


def test_a_refusal_says_what_the_setting_is_for_and_takes() -> None:
    assert refusal(FinetuneSettings, "model.head=foo").endswith(
        "(segmentation head; none: that of model.init, else aspp; takes "
        "aspp|fcn|linear|segformer, default none)"
    )


def test_the_refusal_of_a_list_says_what_the_list_may_hold() -> None:
    """Where a single value may be given as well."""
    line = refusal(PretrainSettings, "augment.hue=[-0.6, 0.2]")
    assert line.endswith("takes list of 2 numbers, -0.5 to 0.5, default 0.1)")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: 3", "'train' in the recipe must be a section, not 3"),
        ("train:", "'train' in the recipe must be a section, not null"),
        ("train: {steps: {a: 1}}", "train.steps={a: 1} is not a whole number"),
        ("train: {3: 4}", "unknown setting train.3"),
    ],
)
def test_a_recipe_of_another_shape_is_refused_in_plain_words(
    tmp_path: Path, text: str, message: str
) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(text)
    with pytest.raises(UserError) as caught:
        recipes.load(PretrainSettings, str(recipe), [])
    assert str(caught.value).startswith(message)


def test_one_thing_is_counted_without_an_s() -> None:
    assert [counted(count, "step") for count in (0, 1, 2)] == ["0 steps", "1 step", "2 steps"]


@pytest.mark.parametrize("kind", [PretrainSettings, FinetuneSettings])
def test_no_setting_is_described_in_pythons_words(kind: type[Section]) -> None:
    text = str(described(kind))
    assert not any(word in text for word in ("None", "Literal", "typing", "<class", "Union", "(1"))
