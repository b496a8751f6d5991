"""Every way to take a gradient, and the check of each against the others."""
