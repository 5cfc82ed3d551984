"""The libvirt driver: QEMU guests through libvirt, which runs in a child process so that its hangs and crashes stay there."""
