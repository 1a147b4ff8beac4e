"""Federated learning of CelebA's attributes on frozen features, as a Flower app."""
