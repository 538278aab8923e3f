"""Augmentation whose strength differs by class and follows the training; one file each."""
