"""The networks, the contrast that trains them, and weights in and out."""
