"""Attachments step by step: the old flow of volume actions."""
