"""Groups of servers."""
