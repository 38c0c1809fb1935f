"""The limit of open files and sockets of this process."""

SPARE = 256
"""Files kept in reserve for whatever is open besides the connections."""


def allow_open_files(count: int) -> int:
    """Raises the soft limit of open files to `count`, as far as the hard limit permits.

    Returns the number of files that may be open now. Many systems start a process with a limit of
    1,024, fewer than the connections of a cloud or a simulator.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return count
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return count
    allowed = count if hard == resource.RLIM_INFINITY else min(count, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed
