"""Weights in: from files of any kind and from the network, recognised by what they hold."""
