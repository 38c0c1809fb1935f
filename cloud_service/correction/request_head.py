"""Parses the headers of a correction request: the requested form, the type and length of H."""

import math
import re
from typing import NamedTuple

from shared.errors import BadDeadline, LengthRequired, NotAcceptable, WrongMediaType
from shared.wire import DEADLINE_HEADER, FORMS, HALF_HIDDEN_TYPE, HIDDEN_TYPE, Form

_FORM_OF: dict[str, Form] = {layout.correction_type: form for form, layout in FORMS.items()}
_FORM_OF |= {"application/*": "full", "*/*": "full"}
_HALF_OF = {HIDDEN_TYPE.encode(): False, HALF_HIDDEN_TYPE.encode(): True}
_DEADLINE = DEADLINE_HEADER.encode()
_MILLISECONDS = re.compile(rb"[0-9]{1,9}(\.[0-9]{1,9})?")


class RequestHead(NamedTuple):
    """What the headers of a correction request say."""

    form: Form
    """Form of the correction."""
    hidden_half: bool
    """True if H is float16, False if it is float32."""
    length: int
    """Content-Length in bytes."""
    deadline_s: float
    """Seconds until the device no longer needs the correction; infinite without a deadline."""


def read_head(headers: list[tuple[bytes, bytes]]) -> RequestHead:
    """Parses headers whose names are in lower case. Raises WireError."""
    form: Form = "full"
    half, length, deadline = False, -1, math.inf
    for name, value in headers:
        if name == b"accept":
            form = _preferred(value)
        elif name == b"content-length":
            length = int(value)  # llhttp has checked that it is a number
        elif name == b"content-type":
            if value not in _HALF_OF:
                raise WrongMediaType(f"H travels as {HIDDEN_TYPE} or {HALF_HIDDEN_TYPE}")
            half = _HALF_OF[value]
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise WrongMediaType("H travels as it is, without a Content-Encoding")
        elif name == _DEADLINE:
            if not _MILLISECONDS.fullmatch(value):
                raise BadDeadline(f"{DEADLINE_HEADER} is a number of milliseconds")
            deadline = float(value) / 1e3
    if length < 0:
        raise LengthRequired("send Content-Length: the size of H is known before it is sent")
    return RequestHead(form, half, length, deadline)


def _preferred(accept: bytes) -> Form:
    """Returns the form that an Accept header prefers; the full form if it is empty.

    Raises NotAcceptable if the header accepts no form.
    """
    if not accept.strip():
        return "full"
    form: Form = "full"
    best = 0.0
    for entry in accept.decode("latin-1").split(","):
        media_type, *parameters = (token.strip() for token in entry.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        if media_type in _FORM_OF and quality > best:
            best, form = quality, _FORM_OF[media_type]
    if best <= 0.0:
        known_types = ", ".join(layout.correction_type for layout in FORMS.values())
        raise NotAcceptable(f"a correction is one of {known_types}")
    return form
