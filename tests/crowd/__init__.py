"""Many users at once on a shared set of volumes and servers: no 5xx, nothing refused that the rules allow, all ends."""
