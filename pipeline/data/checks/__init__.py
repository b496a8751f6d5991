"""What may be wrong with a data set: copies, conflicts, blank and odd images. Pure functions over small descriptors."""
