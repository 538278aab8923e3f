"""Where labelled images come from; one file each."""
