"""The agents' API: a listener of its own, to which a host's certificate is the only key."""
