"""Images, and their way from and to volumes."""
