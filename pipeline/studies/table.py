"""The studies by name, in the order of the subject."""

from pipeline.studies import batch_size, hard_cases, learning_rate, mlp_cnn, regularization, softmax_svm
from pipeline.studies.base import Study

STUDIES: dict[str, Study] = {
    "learning_rate": learning_rate.STUDY,
    "softmax_svm": softmax_svm.STUDY,
    "regularization": regularization.STUDY,
    "hard_cases": hard_cases.STUDY,
    "mlp_cnn": mlp_cnn.STUDY,
    "batch_size": batch_size.STUDY,
}
