"""How many files and sockets this process may have open."""

SPARE = 256
"""For what is open beside the connections one thinks of."""


def allow_open_files(wanted: int) -> int:
    """Raises the soft limit of open files to `wanted` where it is lower, as far as the hard limit
    permits; gives how many there may be now.

    Many systems begin a process with 1,024, fewer than a cloud or a simulator has connections.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed
