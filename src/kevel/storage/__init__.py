"""Back ends that make, export and revoke volumes. One port (`base`), one module for each technology."""
