"""Which real images need synthetic company; one file each."""
