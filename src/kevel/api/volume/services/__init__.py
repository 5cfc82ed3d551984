"""What operators see of the service: parts, hosts, pools, capabilities, log levels."""
