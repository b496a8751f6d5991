"""From a listing to pixels or JPEG files on disk, in several processes, so that a kill costs a second of it."""
