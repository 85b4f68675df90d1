"""Pretraining: pairs in, losses out; its run, its metrics and its pictures."""
