"""Flow control of one connection: when to read, and how much the client has not received yet."""

import array
import asyncio
import fcntl
import termios
from contextlib import suppress

from uvicorn.protocols.http.flow_control import FlowControl


class Flow(FlowControl):
    """Pauses reading while uvicorn or this project wants it paused."""

    holding = False

    def resume_reading(self) -> None:
        """Resumes reading, unless bytes are held until their turn."""
        if not self.holding:
            super().resume_reading()

    def hold(self) -> None:
        """Pauses reading until `release`."""
        self.holding = True
        self.pause_reading()

    def release(self) -> None:
        """Resumes reading."""
        self.holding = False
        self.resume_reading()


def unsent_bytes(transport: asyncio.WriteTransport, fd: int) -> int:
    """Returns how many bytes the client has not received; 0 if only the kernel has some.

    Includes the kernel's send buffer, because the transport learns of progress only after
    megabytes have been sent, which may take a minute with a slow client.
    """
    in_transport = transport.get_write_buffer_size()
    if not in_transport:
        return 0
    in_kernel = array.array("i", [0])
    with suppress(OSError):  # not every system supports the call
        fcntl.ioctl(fd, termios.TIOCOUTQ, in_kernel)
    return in_transport + in_kernel[0]
