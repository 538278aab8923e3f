"""What several guidance methods share: classifiers of samples, their energies, perturbations."""
