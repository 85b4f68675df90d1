"""``python -m cp2fast``, for torchrun and for a checkout that is not installed."""

from cp2fast.cli import main

if __name__ == "__main__":
    main()
