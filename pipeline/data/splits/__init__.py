"""Which image is used for what: train, validation, test, folds; and what prepare says and shows of it."""
