"""One correction at a time over loopback, against a raw socket."""
