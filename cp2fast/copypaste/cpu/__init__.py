"""The op on the CPU, in numba."""
