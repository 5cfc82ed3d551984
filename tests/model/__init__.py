"""What users may see, as an executable model, and the tests that hold the system to it."""
