"""The networks and the contrastive losses that train them."""
