"""Parts of the guidance benchmark."""
