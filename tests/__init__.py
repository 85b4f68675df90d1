"""Ours: a library of the development environment brings a package of this name."""
