"""Histograms of oriented gradients and a linear SVM with C by cross-validation, by scikit-image and scikit-learn.

Cells of 8 pixels, blocks of 2x2 cells, nine directions (Dalal and Triggs, 2005), of the image at 64x64.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.peers.task import answer, begin, seconds_of

SIDE = 64
C = [10.0**power for power in range(-4, 3)]


def main() -> None:
    task = begin()
    from skimage.feature import hog
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    def describe(file: Path) -> np.ndarray:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR))
        found: np.ndarray = hog(pixels, 9, (8, 8), (2, 2), channel_axis=-1)
        return found

    train = sorted(Path(task.data, "train").glob("*/*"))
    labels = [task.classes.index(file.parent.name) for file in train]
    pipeline = make_pipeline(StandardScaler(), LinearSVC(dual=True, max_iter=20_000, random_state=task.seed))
    search = GridSearchCV(pipeline, {"linearsvc__C": C}, cv=3)
    seconds = seconds_of(lambda: search.fit([describe(file) for file in train], labels))
    test, truth = task.test_files()
    predicted = search.predict([describe(file) for file in test])
    remark = f"C = {search.best_params_['linearsvc__C']:g} by cross-validation"
    answer(predicted.tolist(), truth, training_seconds=seconds, remark=remark)


if __name__ == "__main__":
    main()
