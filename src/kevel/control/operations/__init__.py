"""What is common to exclusive work on a thing: how it fails, and when its time is over."""
