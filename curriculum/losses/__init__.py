"""What the classifier minimises; one file each."""
