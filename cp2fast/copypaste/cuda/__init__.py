"""The op on an NVIDIA GPU, in CUDA C++."""
