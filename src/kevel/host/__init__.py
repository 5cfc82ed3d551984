"""The agent that converges one hypervisor host to its assignments. It never sees the database."""
