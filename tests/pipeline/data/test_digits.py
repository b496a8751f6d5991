"""The embedded digits are scikit-learn's, without importing it."""

import subprocess
import sys

import numpy as np

from pipeline.data.sources.digits import Images as Digits


def test_equal_to_what_sklearn_gives() -> None:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    source = Digits()
    scan = source.scan()
    ours = np.stack([np.frombuffer(source.read(found.path), np.uint8) for found in scan.found])
    np.testing.assert_array_equal(ours, np.floor(images * 255 / 16 + 0.5))
    assert [found.label for found in scan.found] == labels.astype(str).tolist()
    assert scan.found[7].path == "digits/0007"
    decoded = source.decoder(16, 1)(source.read("digits/0007"))
    assert decoded.pixels.shape == (16, 16, 1)
    assert decoded[1:] == (8, 8, False)


def test_neither_stage_imports_what_is_slow() -> None:
    code = "import sys, pipeline.source, pipeline.prepare; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"torch", "pytorch_lightning", "mlflow", "sklearn", "pandas", "matplotlib", "pyarrow", "PIL", "optuna"}
    assert heavy.isdisjoint(loaded)
