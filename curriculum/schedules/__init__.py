"""Which image-guidance level is trained on when; one file each."""
