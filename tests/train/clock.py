"""A clock for tests."""


class Clock:
    """Takes the place of ``time.monotonic`` and ``time.perf_counter``: a test moves it on."""

    now = 0.0

    def __call__(self) -> float:
        return self.now
