"""What Kevel costs: against bare libvirt calls on a real guest, and by itself with the simulated host."""
