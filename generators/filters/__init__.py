"""Judges: they score synthetic images and say which ones to keep; one file each."""
