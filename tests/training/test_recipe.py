"""Recipes: the paper's numbers, changes, files, and the learning rate over time."""

import json

import pytest

from verydeep.errors import UsageError, UserError
from verydeep.training.recipe import RECIPES, find_recipe, scheduled_rate


def test_the_papers_recipe():
    paper = RECIPES["paper"]
    assert (paper.batch_size, paper.momentum, paper.weight_decay, paper.dropout) == (256, 0.9, 5e-4, 0.5)
    assert (paper.learning_rate, paper.schedule, paper.drops, paper.epochs) == (1e-2, "plateau", 3, 74)
    assert paper.colour_shift
    assert paper.mirror
    assert paper.input_divisor == "one"
    assert paper.scales(224) == (256, 256)
    assert paper.scales(32) == (37, 37)


def test_the_papers_fine_tunings_begin_at_a_tenth_of_the_rate_with_one_drop_fewer():
    paper, larger, jitter = (RECIPES[name] for name in ("paper", "paper-384", "paper-jitter"))
    assert (larger.learning_rate, larger.drops, larger.scales(224)) == (1e-3, 2, (384, 384))
    assert (jitter.learning_rate, jitter.drops, jitter.scales(224)) == (1e-3, 2, (256, 512))
    assert [row.learning_rate / 10**row.drops for row in (paper, larger, jitter)] == pytest.approx([1e-5] * 3)
    assert jitter.trains("conv1_1")


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_survives_json(name, tmp_path):
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps(RECIPES[name].as_record()))
    assert find_recipe(str(file)) == RECIPES[name]


def test_changes():
    changed = find_recipe("quick", dropout=0, train_scale=[40, 80], epochs=None)
    assert (changed.dropout, changed.train_scale, changed.epochs) == (0, (40, 80), RECIPES["quick"].epochs)
    assert changed.scales(32) == (40, 80)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"batch_size": 0}, "batch_size.*greater than or equal to 1"),
        ({"epochs": -1}, "epochs"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"learning_rate": "fast"}, "learning_rate"),
        ({"dropout": 1}, "dropout"),
        ({"schedule": "linear"}, "'plateau', 'cosine' or 'constant'"),
        ({"learnin_rate": 1}, "no field 'learnin_rate': do you mean learning_rate\\? it has balance"),
        ({"lr": 1}, "no field 'lr': do you mean learning_rate\\?"),
        ({"class-weight": "balanced"}, "no field 'class-weight': do you mean balance=loss\\?"),
        ({"oversample": True}, "no field 'oversample': do you mean balance=sampling\\?"),
        ({"xyz": 1}, "no field 'xyz': it has balance"),
        ({"keep": "none"}, "'last' or 'best'"),
    ],
)
def test_wrong_changes(changes, complaint):
    with pytest.raises(UsageError, match=complaint):
        find_recipe("quick", **changes)


def test_unknown_recipes_and_files(tmp_path):
    with pytest.raises(UsageError, match=r"paper, paper-384, .*quick, small-images, auto, fine-tune"):
        find_recipe("slow")
    with pytest.raises(UserError, match="cannot be read"):
        find_recipe(str(tmp_path / "none.json"))
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(UserError, match="not a JSON object"):
        find_recipe(str(tmp_path / "list.json"))
    (tmp_path / "part.json").write_text('{"epochs": 3}')
    with pytest.raises(UsageError, match="recipe part: it lacks initialisation, batch_size"):
        find_recipe(str(tmp_path / "part.json"))
    (tmp_path / "odd.json").write_text('{"epoch": 3}')
    with pytest.raises(UsageError, match=r"no field .epoch.: do you mean epochs.*it has balance, "):
        find_recipe(str(tmp_path / "odd.json"))
    (tmp_path / "cut.json").write_text('{"epochs":')
    with pytest.raises(UserError, match=r"cut\.json is not JSON: line 1, column 11"):
        find_recipe(str(tmp_path / "cut.json"))
    with pytest.raises(UsageError, match="recipe quick: epochs 0 should be greater than or equal to 1"):
        find_recipe("quick", epochs=0)


def test_scales_must_hold_the_crop():
    with pytest.raises(UsageError, match="below the crop"):
        find_recipe("quick", train_scale=31).scales(32)
    with pytest.raises(UsageError, match="smaller one first"):
        find_recipe("quick", train_scale=[80, 40]).scales(32)


def test_rates():
    cosine = find_recipe("quick", learning_rate=1, epochs=11, warmup=1)
    assert scheduled_rate(cosine, 0.5) == pytest.approx(0.5)
    assert scheduled_rate(cosine, 1) == pytest.approx(1)
    assert scheduled_rate(cosine, 6) == pytest.approx(0.5)
    assert scheduled_rate(cosine, 11) == pytest.approx(0)
    constant = find_recipe("paper")
    assert {scheduled_rate(constant, done) for done in (0, 10, 73)} == {1e-2}


def test_what_selects_on_validation():
    assert RECIPES["paper"].selects_on_validation()
    assert not RECIPES["quick"].selects_on_validation()
    assert find_recipe("quick", keep="best").selects_on_validation()
