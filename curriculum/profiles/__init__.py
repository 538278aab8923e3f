"""How many images the classes of a long-tailed benchmark keep; one file each."""
