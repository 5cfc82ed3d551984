"""Drivers that run servers and plug disks into them. One port (`base`), one module or folder for each technology."""
