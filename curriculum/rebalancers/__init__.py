"""What is done to the last layer of a trained classifier; one file each."""
