"""Score tables: make, check, post-process, evaluate, calibrate, detect."""
