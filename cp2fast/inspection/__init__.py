"""What users look at: composed pairs, similarity maps, and whether everything works here."""
