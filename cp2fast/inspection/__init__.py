"""Inspection for users: composed pairs, similarity maps, and tests of the installation."""
