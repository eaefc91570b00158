"""verydeep for scikit-learn: ``verydeep.sklearn.Classifier``."""

from verydeep.runs.estimator import Classifier as Classifier

__all__ = ["Classifier"]
