"""What hosts report, whether they are alive, and how that compares with the records."""
