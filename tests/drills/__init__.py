"""Long runs, each a program of its own (`python -m drills.soak` in `tests/`), and short ones as tests."""
