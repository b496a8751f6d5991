"""Ready-made experiments that answer the usual questions of learning: one file a study, named in `table`."""
