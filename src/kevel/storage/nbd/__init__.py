"""The back end `nbd`: volumes are files of one directory, which hosts reach through a storage daemon over TLS."""
