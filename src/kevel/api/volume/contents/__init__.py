"""What is in volumes: reverted, reimaged, written out, and what is known of it."""
