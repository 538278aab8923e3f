"""Networks behind one protocol; one file each."""
