from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.errors import InvalidInputError
from models.sequences.data import SequenceOptions, load_examples
from models.sequences.examples import IGNORED

CLASSIFY = """item_id,timestamp,load,heat,note,label
b,2,3,,x,up
b,1,2,5,y,up
a,1,1,1,z,down
"""


def load(tmp_path: Path, text: str, **options: Any) -> Any:
    path = tmp_path / "data.csv"
    path.write_text(text)
    settings: dict[str, Any] = {"task": "classify", "targets": ("label",)}
    return load_examples(path, SequenceOptions(**settings | options))


def test_steps_are_ordered_and_columns_of_numbers_found(tmp_path: Path) -> None:
    items, found = load(tmp_path, CLASSIFY)
    assert items.features == ("load", "heat")
    assert [example.item_id for example in items.examples] == ["b", "a"]
    np.testing.assert_array_equal(items.examples[0].values, [[2, 5], [3, np.nan]])
    assert items.classes == ("down", "up")
    assert [int(example.answer) for example in items.examples] == [1, 0]
    assert (found.ignored, found.num_missing, found.time) == (("note",), 1, "timestamp")


def test_classes_that_are_numbers_are_sorted_as_numbers(tmp_path: Path) -> None:
    text = "item_id,x,label\na,1,10\nb,1,9\n"
    assert load(tmp_path, text)[0].classes == ("9", "10")


def test_order_of_the_rows_counts_without_a_column_of_time(tmp_path: Path) -> None:
    items, found = load(tmp_path, "machine,x,label\na,2,u\na,1,u\nb,0,v\n", item="machine")
    np.testing.assert_array_equal(items.examples[0].values, [[2], [1]])
    assert (found.item, found.time) == ("machine", None)


def test_regression_has_several_targets(tmp_path: Path) -> None:
    text = "item_id,x,wear,cost\na,1,0.5,7\na,2,0.5,7\nb,1,1.5,9\n"
    items, _ = load(tmp_path, text, task="regress", targets=("wear", "cost"))
    assert (items.features, items.targets) == (("x",), ("wear", "cost"))
    np.testing.assert_array_equal(items.examples[0].answer, [0.5, 7])


def test_steps_may_lack_a_tag(tmp_path: Path) -> None:
    items, found = load(tmp_path, "item_id,x,label\na,1,wet\na,2,\na,3,dry\n", task="tag")
    np.testing.assert_array_equal(items.examples[0].answer, [1, IGNORED, 0])
    assert found.num_untagged == 1


WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "answer that changes": ("item_id,x,label\na,1,u\na,2,v\n", {}, "label, row 3.*from row 2"),
    "no answer": ("item_id,x,label\na,1,u\nb,2,\n", {}, "label, row 3"),
    "no number": ("item_id,x,label\na,1,u\nb,two,v\n", {"features": ("x",)}, "x, row 3: 'two'"),
    "no number to learn": (
        "item_id,x,label\na,1,5\nb,2,high\n",
        {"task": "regress"},
        "label, row 3: 'high'",
    ),
    "no item": ("item_id,x,label\na,1,u\n,2,v\n", {}, "item_id, row 3"),
    "step twice": (
        "item_id,ds,x,label\na,1,1,u\na,1,2,u\nb,1,1,v\n",
        {},
        "ds, row 3: '1' comes twice",
    ),
    "unknown column": ("item_id,x,label\na,1,u\n", {"features": ("y",)}, "column y is not in"),
    "one class": ("item_id,x,label\na,1,u\nb,1,u\n", {}, "label holds 1 classes"),
    "new class": (
        "item_id,x,label\na,1,u\nb,1,w\n",
        {"classes": ("u", "v")},
        "label, row 3: 'w' is a class that the model does not know",
    ),
    "no item column": ("machine,x,label\na,1,u\n", {}, "--item"),
    "no features": ("item_id,x,label\na,b,u\n", {}, "holds numbers: x"),
    "answer to read": ("item_id,x,label\na,1,u\n", {"features": ("label",)}, "named twice"),
    "item to read": ("item_id,x,label\na,1,u\n", {"features": ("item_id",)}, "names or orders"),
    "two answers": ("item_id,x,label\na,1,u\n", {"targets": ("label", "x")}, "one --target"),
    "no rows": ("item_id,x,label\n", {}, "no rows"),
}


@pytest.mark.parametrize("name", WRONG)
def test_complaint_names_place(tmp_path: Path, name: str) -> None:
    text, options, message = WRONG[name]
    with pytest.raises(InvalidInputError, match=message):
        load(tmp_path, text, **options)


def test_words_for_missing_numbers_are_tags_like_any_other(tmp_path: Path) -> None:
    text = "item_id,x,label\nNA,1,NA\nNA,NA,None \nNA,3, \n"
    items, found = load(tmp_path, text, task="tag")
    assert (items.classes, items.examples[0].item_id) == (("NA", "None"), "NA")
    np.testing.assert_array_equal(items.examples[0].answer, [0, 1, IGNORED])
    np.testing.assert_array_equal(items.examples[0].values, [[1], [np.nan], [3]])
    assert found.num_untagged == 1


def test_semicolons_and_decimal_commas_are_found(tmp_path: Path) -> None:
    text = "item_id;x;wear\na;1,5;0,5\nb;2;1,5\n"
    items, _ = load(tmp_path, text, task="regress", targets=("wear",))
    assert [example.values.tolist() for example in items.examples] == [[[1.5]], [[2.0]]]
    assert [example.answer.tolist() for example in items.examples] == [[0.5], [1.5]]
