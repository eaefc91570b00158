"""The scikit-learn estimator: scikit-learn's own checks, images of any kind, and its tools on lists of files."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from small_nets import make_net
from verydeep.errors import UsageError, UserError
from verydeep.nets.model_file import save
from verydeep.sklearn import Classifier
from verydeep.testing.classifier import Classifier as ImageClassifier
from verydeep.weights.resolve import load


@parametrize_with_checks([Classifier()])
def test_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.fixture
def model(tmp_path):
    save(make_net(features_only=True), tmp_path / "features.safetensors")
    return str(tmp_path / "features.safetensors")


@pytest.fixture
def photos(make_folder):
    files = sorted(map(str, make_folder("photos", {"dark": 12, "bright": 12, "middle": 12}).rglob("*.png")))
    return files, [Path(file).parent.name for file in files]


def test_files_and_their_labels(model, photos):
    files, labels = photos
    fitted = Classifier(model).fit(files, labels)
    assert fitted.classes_.tolist() == ["bright", "dark", "middle"]
    assert fitted.score(files, labels) == 1
    assert fitted.predict(files[:3]).tolist() == labels[:3]
    assert not hasattr(fitted, "n_features_in_")
    posteriors = fitted.predict_proba(files)
    assert posteriors.sum(1) == pytest.approx(1)
    ranked = ImageClassifier(fitted.net_).predict(files[5], top=3).classes
    assert {one.name: one.posterior for one in ranked} == pytest.approx(
        dict(zip(fitted.classes_, posteriors[5], strict=True)), abs=1e-5
    )


def test_images_of_any_kind_give_the_same_posteriors(model, photos):
    files, labels = photos
    fitted = Classifier(model).fit(files, labels)
    expected = fitted.predict_proba(files[:2])
    arrays = [np.asarray(Image.open(file)) for file in files[:2]]
    kinds = [
        tuple(files[:2]),
        [Path(file) for file in files[:2]],
        np.array(files[:2]),
        np.array(files[:2], dtype=object)[:, None],
        [Path(file).read_bytes() for file in files[:2]],
        [Image.open(file) for file in files[:2]],
        arrays,
        [files[0], torch.from_numpy(arrays[1].copy()).permute(2, 0, 1)],
    ]
    for given in kinds:
        assert fitted.predict_proba(given) == pytest.approx(expected, abs=1e-6), type(given[0])
    same = [array[:40, :40] for array in arrays]
    one_by_one = fitted.predict_proba(same)
    assert fitted.predict_proba(np.stack(same)) == pytest.approx(one_by_one, abs=1e-6)
    tensor = torch.from_numpy(np.stack(same)).permute(0, 3, 1, 2)
    assert fitted.predict_proba(tensor) == pytest.approx(one_by_one, abs=1e-6)
    grey = np.stack(same)[..., 0]
    assert fitted.predict_proba(grey).shape == (2, 3)


def test_a_column_of_a_table(model, photos):
    pandas = pytest.importorskip("pandas")
    files, labels = photos
    table = pandas.DataFrame({"file": files, "label": labels})
    fitted = Classifier(model).fit(table[["file"]], table["label"])
    assert fitted.score(table["file"], table["label"]) == 1


def test_numbers_for_labels_a_pickle_and_the_same_again_by_the_seed(model, photos):
    files, labels = photos
    numbers = np.array([{"bright": 7, "dark": -1, "middle": 30}[label] for label in labels])
    fitted = Classifier(model, seed=3).fit(files, numbers)
    assert fitted.predict(files).tolist() == numbers.tolist()
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.predict_proba(files), fitted.predict_proba(files))
    other = clone(fitted).fit(files, numbers)
    assert np.array_equal(other.predict_proba(files), fitted.predict_proba(files))


def test_the_tools_of_scikit_learn_take_lists_of_files(model, photos):
    files, labels = photos
    assert cross_val_score(Classifier(model), files, labels, cv=3).mean() > 0.9
    pipeline = Pipeline([("as they are", "passthrough"), ("classify", Classifier(model))])
    search = GridSearchCV(pipeline, {"classify__test_scale": [32, 64]}, cv=2, error_score="raise").fit(files, labels)
    assert search.best_score_ > 0.9
    assert search.predict(files[:1]).tolist() == labels[:1]


def test_a_recipe_trains_a_net(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files, labels = photos
    before = sorted(tmp_path.iterdir())
    options = {"epochs": 2, "crop": 32, "width": 0.05, "batch_size": 8}
    trained = Classifier(None, recipe="quick", options=options).fit(files, labels)
    assert trained.predict_proba(files).sum(1) == pytest.approx(1)
    assert (trained.net_.geometry.crop, trained.linear_) == (32, None)
    assert sorted(tmp_path.iterdir()) == before
    kept = clone(trained).set_params(out=tmp_path / "run").fit(files, labels)
    assert np.array_equal(kept.predict_proba(files), trained.predict_proba(files))
    assert ImageClassifier(tmp_path / "run").classes == ("bright", "dark", "middle")


def test_the_model_file_of_a_linear_classifier(model, photos, tmp_path):
    files, labels = photos
    fitted = Classifier(model, out=tmp_path / "here").fit(files, labels)
    images = torch.from_numpy(np.asarray(Image.open(files[0])).copy()).permute(2, 0, 1)[None]
    assert torch.equal(load(tmp_path / "here")(images), fitted.net_(images))


@pytest.mark.parametrize(
    ("changed", "given", "labels", "message"),
    [
        ({}, "cat.jpg", ["cat"], r"X is one str: give a list of files or images, \[X\]"),
        ({}, ["cat.jpg", "dog.jpg"], ["cat", "dog"], "no such file: cat.jpg"),
        ({}, ["cat.jpg", "dog.jpg"], ["cat", "cat"], "there is one class, cat"),
        ({}, ["cat.jpg", "dog.jpg"], ["cat"], "inconsistent numbers of samples"),
        ({}, np.zeros((2, 9, 9, 3)), ["cat", "dog"], "of float64: give uint8"),
        ({"recipe": "slow"}, ["cat.jpg", "dog.jpg"], ["cat", "dog"], "unknown recipe 'slow'"),
        ({"recipe": "quick"}, np.eye(4), [0, 1, 0, 1], "trains on images: a table of numbers"),
        ({"model": None}, ["cat.jpg", "dog.jpg"], ["cat", "dog"], "model=None is for a recipe that trains"),
        ({"options": {"epochs": 2}}, ["cat.jpg", "dog.jpg"], ["cat", "dog"], "options is for a recipe that trains"),
    ],
)
def test_wrong_use(changed, given, labels, message, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        Classifier(**{"model": model} | changed).fit(given, labels)


@pytest.mark.parametrize("recipe", ["linear", "quick"])
def test_a_missing_file_is_named_with_what_helps_in_python(recipe, model, photos):
    files, labels = photos
    fitted = Classifier(model).fit(files, labels) if recipe == "linear" else None
    for call in (
        lambda: Classifier(model, recipe=recipe, options=None if fitted else {"epochs": 1}).fit(
            [*files[:-1], "no.png"], labels
        ),
        lambda: fitted.predict(["no.png"]) if fitted else Classifier(model).fit([*files[:-1], "no.png"], labels),
    ):
        with pytest.raises(UserError, match=r"no such file: no.png; mend it, or leave it out of the data") as raised:
            call()
        assert "--" not in str(raised.value)


def test_images_and_descriptors_are_not_mixed(model, photos):
    files, labels = photos
    with pytest.raises(UsageError, match="was fitted on images"):
        Classifier(model).fit(files, labels).predict(np.eye(4))
    with pytest.raises(UserError, match="was fitted on descriptors"):
        Classifier().fit(np.eye(6), [0, 1] * 3).predict(files)


def test_importing_it_breaks_no_other_import():
    code = (
        "import verydeep, sys; assert 'sklearn' not in sys.modules; import sklearn, sklearn.svm; "
        "print(verydeep.sklearn.Classifier(), sklearn.__name__, verydeep.sklearn.__name__)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert ran.stdout.split() == ["Classifier()", "sklearn", "verydeep.sklearn"]
