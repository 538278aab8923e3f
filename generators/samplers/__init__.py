"""Ways from one noise level to the next; one file each."""
