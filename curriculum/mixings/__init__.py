"""How two images of a batch become one; one file each."""
