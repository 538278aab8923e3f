"""Parts of the CIFAR-10-LT study."""
