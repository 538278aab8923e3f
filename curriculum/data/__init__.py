"""Reading, splitting and subsampling labelled images. Knows no data set."""
