"""The benchmarks of ``cp2fast bench``."""
