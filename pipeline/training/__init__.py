"""One fit, what goes on around its steps, its crash-safe state, and the trials of a search."""
