"""How often each class is drawn, whatever its images; one file each."""
