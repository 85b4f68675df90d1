"""Classes: names, colours, merging, ignoring and shifting, and what overlaps."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cp2fast import recipes
from cp2fast.config import FinetuneSettings, LabelSettings
from cp2fast.config.labels import ClassSettings
from cp2fast.errors import UserError
from cp2fast.labels.class_files import Declared, DeclaredClass, read_class_file
from cp2fast.labels.classes import Classes, declared_in, palette_of, settle

NAMES = ("sky", "road", "car", "truck", "bus", "sea")


def settled(classes: object, kind: str = "values", **settings: object) -> Classes:
    given = LabelSettings.model_validate({"classes": classes, **settings})
    declared = declared_in(given) or Declared(tuple(map(DeclaredClass, NAMES)), "classes.txt")
    return settle(declared, kind, given)


def refusal(classes: object, kind: str = "values", **settings: object) -> str:
    with pytest.raises(UserError) as caught:
        settled(classes, kind, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def labels(classes: Classes, *stored: int) -> list[int]:
    return classes.coding.label(np.array([stored])).labels[0].tolist()


def test_names_alone_are_the_labels_in_order() -> None:
    classes = settled(["a", "b", "c"])
    assert classes.names == ("a", "b", "c")
    assert labels(classes, 0, 1, 2, 255) == [0, 1, 2, 255]


def test_merged_classes_become_one_where_the_first_of_them_was() -> None:
    classes = settled({"merge": {"vehicle": [2, 3, "bus"]}})
    assert classes.names == ("sky", "road", "vehicle", "sea")
    assert labels(classes, 0, 1, 2, 3, 4, 5) == [0, 1, 2, 2, 2, 3]


def test_a_merge_into_a_class_that_is_there_joins_it() -> None:
    classes = settled({"merge": {"road": ["sea", 17]}})
    assert classes.names == ("sky", "road", "car", "truck", "bus")
    assert labels(classes, 1, 5, 17) == [1, 1, 1]


def test_255_is_a_class_where_it_is_named() -> None:
    assert labels(settled({0: "wall", 255: "crack"}), 0, 255) == [0, 1]
    assert labels(settled({"names": ["a", "b"], "merge": {"b": [255]}}), 0, 1, 255) == [0, 1, 1]


def test_what_is_ignored_has_no_label_and_the_others_close_up() -> None:
    classes = settled({"ignore": [0, "truck", 200]})
    assert classes.names == ("road", "car", "bus", "sea")
    assert labels(classes, 0, 1, 2, 3, 4, 200, 255) == [255, 0, 1, 255, 2, 255, 255]


def test_a_shift_moves_the_numbers_and_ignores_what_falls_below_0() -> None:
    classes = settled({"names": ["wall", "building", "sky"], "shift": -1, "ignore": [255]})
    assert labels(classes, 0, 1, 2, 3, 255) == [255, 0, 1, 2, 255]
    numbered = Declared(tuple(DeclaredClass(str(n), n) for n in range(4)), "the masks")
    given = LabelSettings.model_validate({"classes": {"shift": -1}})
    assert settle(numbered, "values", given).names == ("1", "2", "3")


def test_names_may_be_by_stored_value_as_other_tools_write_them() -> None:
    classes = settled({7: "road", 11: "building", 26: {"name": "car", "values": [26, 27, 28]}})
    assert classes.names == ("road", "building", "car")
    assert labels(classes, 7, 11, 26, 27, 28) == [0, 1, 2, 2, 2]


def test_a_class_without_a_name_is_refused_unless_it_is_ignored() -> None:
    assert "data.classes has a class without a name: name it" in refusal(["", "road", "car"])
    assert "has a class without a name" in refusal({"merge": {"": ["road", "car"]}})
    classes = settled({"names": ["", "road", "car"], "ignore": [0]})
    assert classes.names == ("road", "car")
    assert labels(classes, 0, 1, 2) == [255, 0, 1]


def test_stored_values_and_colours_may_come_from_numpy() -> None:
    values, colours = np.unique(np.uint8([3, 4])), np.uint8([[1, 2, 3], [4, 5, 6]])
    given = {
        "data.classes": {0: "sky", 1: {"name": "car", "values": list(values)}},
        "data.colours": [list(colour) for colour in colours],
    }
    data = recipes.load(FinetuneSettings, None, given).data
    assert isinstance(data.classes, ClassSettings)
    assert data.classes.merge == {"car": (3, 4)}
    assert data.colours == ((1, 2, 3), (4, 5, 6))


def test_names_that_yaml_takes_for_booleans_are_as_written(tmp_path: Path) -> None:
    values = ["{0: no, 1: yes}", "{names: {0: no, 1: yes}}", "{names: [no, yes]}", "[no, yes]"]
    for number, value in enumerate(values):
        path = tmp_path / f"{number}.yaml"
        path.write_text(f"data: {{classes: {value}}}\n")
        word = recipes.load(FinetuneSettings, None, [f"data.classes={value}"])
        assert word == recipes.load(FinetuneSettings, path)
        declared = declared_in(word.data)
        assert declared is not None
        assert [one.name for one in declared.classes] == ["no", "yes"]
    coloured = recipes.load(FinetuneSettings, None, ["data.colours={no: [1, 2, 3]}"]).data.colours
    assert coloured == {"no": (1, 2, 3)}


@pytest.mark.parametrize(
    "given",
    [
        {"classes": {True: "a", False: "b"}},
        {"classes": {0: False, 1: True}},
        {"classes": {0: "a", 1: {"name": "b", "values": [True]}}},
        {"colours": [[True, False, True]]},
    ],
)
def test_booleans_are_neither_stored_values_nor_names_nor_colours(given: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"data\.c"):
        LabelSettings.model_validate(given)


@pytest.mark.parametrize("order", [1, -1])
def test_a_stored_value_of_two_classes_is_refused(order: int) -> None:
    given = {0: "sky", 1: {"name": "vehicle", "values": [2, 3]}, 2: "tree"}
    message = refusal(dict(list(given.items())[::order]))
    assert "data.classes gives 2 to both" in message
    assert "'vehicle'" in message
    assert "'tree'" in message


def test_colours_are_merged_and_ignored_by_name_or_as_they_are_written() -> None:
    colours = {"sky": [0, 0, 255], "road": "#808080", "car": [255, 0, 0], "bus": [255, 0, 9]}
    classes = settled(
        {"merge": {"vehicle": ["car", "bus"]}, "ignore": ["#ffffff"]}, "colours", colours=colours
    )
    assert classes.names == ("sky", "road", "vehicle")
    assert classes.colours == ((0, 0, 255), (128, 128, 128), (255, 0, 0))
    stored = (0x0000FF, 0x808080, 0xFF0000, 0xFF0009, 0xFFFFFF)
    assert labels(classes, *stored) == [0, 1, 2, 2, 255]


def test_overlaps_and_names_of_nothing_are_refused() -> None:
    overlap = refusal({"merge": {"a": [1, 2], "b": ["car", 3]}})
    assert "puts 2 (car) into both 'a' and 'b'" in overlap
    assert "ignores 3 (truck) and merges it into 'a'" in refusal(
        {"merge": {"a": [3]}, "ignore": [3]}
    )
    assert "merge.a names plane, which is not a class" in refusal({"merge": {"a": ["plane"]}})
    assert "merge.a is empty" in refusal({"merge": {"a": []}})
    assert "has 1 classes: 2 to 255 are needed, after merging" in refusal(
        {"merge": {"all": list(range(6))}}
    )
    assert "twice" in refusal(["a", "b", "a"])
    assert "gives #0000ff to both 'a' and 'b'" in refusal(
        ["a", "b"], "colours", colours=["#0000ff", [0, 0, 255]]
    )
    assert "has 300 classes" in refusal([f"class {number}" for number in range(300)])
    beyond = {70_000: "a", 0: "b"}, {"shift": -3, "ignore": [70_000]}, {"merge": {"a": [-1, 2]}}
    for classes in beyond:
        assert "but masks store 0 to 65535" in refusal(classes)
    assert "3 colours, but data.classes 2 classes" in refusal(["a", "b"], colours=["#000000"] * 3)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("data.classes={mergers: 3}", "data.classes has the key 'mergers': it takes names"),
        ("data.classes={merge: [3]}", "is not as in {names: [sky, road]"),
        ("data.classes={0: sky, 1: {values: [3]}}", "data.classes of 1 is {'values': [3]}: write"),
        ("data.classes={0: sky, 1: null}", "data.classes of 1 is {'name': None}: write its name"),
        ("data.classes={0: a, 1: {name: b, values: []}}", "data.classes of 1 is"),
        ("data.classes={0: a, 1: {name: b, values: [null]}}", "data.classes of 1 is"),
        ("data.classes={0: a, 1: {name: b, values: [.inf]}}", "data.classes of 1 is"),
        ("data.classes={0: a, 1: {name: b, values: [1.5]}}", "data.classes of 1 is"),
        ("data.classes={true: a, false: b}", "data.classes has the key 'true'"),
        ("data.colours=[[true, false, true]]", "data.colours names the colour ['true'"),
        ("data.colours=[[1, 2]]", "data.colours names the colour [1, 2]"),
        ("data.colours={a: [1, 2, 300]}", "data.colours names the colour [1, 2, 300]"),
        ("data.colours=blue", "data.colours=blue: write [[0, 0, 0]"),
    ],
)
def test_settings_that_cannot_be_read_are_refused(word: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        recipes.load(FinetuneSettings, None, [word])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_parts_of_classes_are_settings_too() -> None:
    words = [
        "data.classes.shift=-1",
        "data.classes.merge={road: [3, 4]}",
        "data.classes.ignore=[0]",
    ]
    apart = recipes.load(FinetuneSettings, None, words).data
    together = "data.classes={merge: {road: [3, 4]}, ignore: [0], shift: -1}"
    assert apart == recipes.load(FinetuneSettings, None, [together]).data


def test_settings_come_back_from_a_file_as_they_were(tmp_path: Path) -> None:
    words = ["data.classes={names: {3: a, 4: b}, merge: {c: [3, 4]}, ignore: [0], shift: -1}"]
    words += ["data.colours={a: [1, 2, 3], b: '#040506'}"]
    settings = recipes.load(FinetuneSettings, None, words)
    (tmp_path / "kept.yaml").write_text(recipes.to_yaml(settings))
    assert recipes.load(FinetuneSettings, str(tmp_path / "kept.yaml"), []) == settings
    [changed] = recipes.differences(
        settings, recipes.load(FinetuneSettings, None, [words[0].replace("-1", "-2"), words[1]])
    )
    assert changed == ("data.classes.shift", -1, -2)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("classes.txt", "\ufeffsky\n\nroad\n", [("sky", None, None), ("road", None, None)]),
        ("class_names.txt", "__ignore__\n_background_\ncar\n", [("_background_", None, None)]),
        (
            "labelmap.txt",
            "# a\na b:1,2,3:x:y\nc:::\n",
            [("a b", None, (1, 2, 3)), ("c", None, None)],
        ),
        ("classes.csv", "value,name,colour\n3,a,#010203\n", [("a", 3, (1, 2, 3))]),
        ("classes.csv", "a,1,2,3\nb,4,5,6\n", [("a", None, (1, 2, 3)), ("b", None, (4, 5, 6))]),
        (
            "class_dict.csv",
            "name,r,g,b\nBicyclist,0,128,192\n",
            [("Bicyclist", None, (0, 128, 192))],
        ),
        (
            "objectInfo150.txt",
            "Idx\tRatio\tTrain\tVal\tStuff\tName\n1\t0.1\t11\t1\t1\twall\n"
            "2\t0.1\t6\t6\t1\tbuilding, edifice\n",
            [("wall", 1, None), ("building", 2, None)],
        ),
    ],
)
def test_files_of_classes_are_read(
    name: str, text: str, expected: list[tuple[str, int | None, object]], tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    declared = read_class_file(tmp_path)
    assert declared is not None
    found = [(one.name, one.value, one.colour) for one in declared.classes]
    assert found[: len(expected)] == expected
    assert declared.source == str(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("labelmap.txt", "a:::\n:1:2\n", "labelmap.txt, line 2"),
        ("labelmap.txt", "a:1,2,300::\n", "'1,2,300' is not a colour"),
        ("classes.csv", "name,r,g,b\na,1,x,3\n", "class 1: '1,x,3' is not a colour"),
        ("classes.csv", "name,value\na,one\n", "the value 'one' is not a whole number"),
    ],
)
def test_a_file_of_classes_that_cannot_be_read_is_named_with_its_line(
    name: str, text: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError) as caught:
        read_class_file(tmp_path)
    assert message in str(caught.value)


def test_labels_without_colours_of_their_own_have_vocs() -> None:
    assert palette_of([(9, 8, 7)])[:3].tolist() == [[9, 8, 7], [128, 0, 0], [0, 128, 0]]
