"""What ``cp2fast bench`` runs."""
