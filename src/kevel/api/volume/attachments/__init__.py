"""Attachments as objects: the attachments API."""
