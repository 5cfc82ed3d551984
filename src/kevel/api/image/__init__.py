"""The image API v2: `operations.API` is its table."""
