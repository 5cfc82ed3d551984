"""The outside judge: Tempest, unmodified, against a `kevel up` of its own."""
