"""The libvirt driver: QEMU guests, through a libvirt in a child process, so that its hangs and crashes stay there."""
