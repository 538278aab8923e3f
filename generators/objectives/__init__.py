"""What a generator minimises while it is trained; one file each."""
