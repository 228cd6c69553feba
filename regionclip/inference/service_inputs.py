"""What clients of the service send: forms of requests, their limits, and pictures, also from hosts that are allowed."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import threading
import time
from contextlib import suppress
from http import client
from io import BytesIO
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

import numpy as np
from fastapi import Request
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from regionclip.data.pictures import FORMATS, decode_image
from regionclip.errors import InputError
from regionclip.inference import THRESHOLD, Limits
from regionclip.inference.sources import from_base64

JSON, MULTIPART = "application/json", "multipart/form-data"
_LISTS = ("names", "background")  # fields of a multipart form that may stand several times
_FETCH_SECONDS = 10.0
_MOST_BOXES, _MOST_NUMBERS = 1000, 1_000_000  # of a request, and of its answer
_PORTS = {"http": 80, "https": 443}


Text = Annotated[str, Field(min_length=1, max_length=1000)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=10_000)]
Side = Annotated[float, Field(ge=-1e6, le=1e6)]
Boxes = Annotated[
    list[Annotated[list[Side], Field(min_length=4, max_length=4)]],
    Field(max_length=_MOST_BOXES, description="x1, y1, x2, y2 in pixels"),
]


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Encoded(_Form):
    """A picture as Roboflow's clients send it."""

    type: Literal["base64", "url"]
    value: str


class _WithPicture(_Form):
    image: Annotated[str | Encoded, Field(description="a picture file in base64, plain or as a data URL")]


class _WithNames(_Form):
    names: Annotated[
        list[Text] | dict[Text, Text | list[Text]] | None, Field(description="names, or the phrases of each name")
    ] = None
    background: Annotated[list[Text], Field(description="texts that take false alarms away")] = []

    def require_few(self, most: int) -> None:
        """Refuse more texts than the service takes."""
        given = self.names or []
        phrases = given.values() if isinstance(given, dict) else given
        texts = sum(len(one) if isinstance(one, list) else 1 for one in phrases) + len(self.background)
        if texts > most:
            raise InputError(f"{texts:,} texts, more than {most:,}", key="names", mend="look for less at a time")


class VocabularyRequest(_WithNames):
    """A vocabulary to keep."""


class _WithVocabulary(_WithNames):
    vocabulary: Annotated[str | None, Field(description="a vocabulary that is kept, instead of names")] = None


class DetectRequest(_WithPicture, _WithVocabulary):
    """What to find on a picture; the settings are those of `RegionCLIP.detect`."""

    threshold: Share | dict[Text, Share] = THRESHOLD
    top_k: Count | None = None
    max_detections: Count | None = None
    iou: Share | None = None
    agnostic: bool = False


class ClassifyRequest(_WithPicture, _WithVocabulary):
    """Boxes of a picture to be named."""

    boxes: Boxes


class FeaturesRequest(_WithPicture):
    """Boxes of a picture to be embedded."""

    boxes: Boxes


class InferRequest(_WithPicture):
    """Roboflow's request; what else its clients send is ignored."""

    model_config = ConfigDict(extra="ignore")

    text: list[Text]
    confidence: Share | None = None


FORMS = (DetectRequest, InferRequest, FeaturesRequest, ClassifyRequest, VocabularyRequest)
AnyForm = TypeVar("AnyForm", bound=_Form)


async def read_form(request: Request, form: type[AnyForm], most_texts: int) -> tuple[AnyForm, bytes | None]:
    """Return a request in its form, and the file that was uploaded with it.

    Raises:
        InputError: It has another form.
        HTTPException: It is neither JSON nor, where that is possible, multipart.
    """
    kind, content = request.headers.get("content-type", "").partition(";")[0].strip().lower(), None
    try:
        if kind == JSON:
            read = await asyncio.to_thread(form.model_validate_json, await request.body(), strict=True)
        elif kind == MULTIPART and form is DetectRequest:
            given, content = await _multipart(request, most_texts)
            read = form.model_validate(given)
        else:
            raise HTTPException(415, f"send {JSON}{f' or {MULTIPART}' if form is DetectRequest else ''}")
    except ValidationError as error:
        raise wrong_form(error.errors(include_url=False, include_input=False)) from None
    if isinstance(read, _WithNames):
        read.require_few(most_texts)
    return read, content


def wrong_form(errors: Any) -> InputError:
    """Return the first thing that pydantic says of a request, without what it was given."""
    first = errors[0]
    if first["type"] == "json_invalid":
        return InputError("the body is not JSON", mend="send it as /openapi.json says")
    # Further on, pydantic's names of types stand among keys.
    key = ".".join(str(part) for place, part in enumerate(first["loc"]) if not place or isinstance(part, int))
    return InputError(first["msg"], key=key[:100] or None, mend="send it as /openapi.json says")


async def _multipart(request: Request, most_texts: int) -> tuple[dict[str, Any], bytes]:
    async with request.form(max_files=1, max_fields=most_texts + len(DetectRequest.model_fields)) as sent:
        upload = sent.get("image")
        if not isinstance(upload, UploadFile):
            raise InputError("no file was uploaded", key="image", mend="send the picture's bytes as a file")
        given = {key: sent.getlist(key) if key in _LISTS else sent[key] for key in sent}
        return given | {"image": ""}, await upload.read()


def require_answerable(rows: int, columns: int) -> None:
    """Refuse a question whose answer is larger than any question may be."""
    if rows * columns > _MOST_NUMBERS:
        problem = f"{rows} boxes by {columns} names are more than {_MOST_NUMBERS:,} numbers"
        raise InputError(problem, key="boxes", mend="send fewer boxes or names")


def decode(content: bytes | str, limits: Limits) -> NDArray[np.uint8]:
    """Decode a picture, uint8 (H, W, 3) RGB; too many pixels are refused by its header.

    Raises:
        InputError: It is none, or too large.
    """
    content = from_base64(content) if isinstance(content, str) else content
    width, height = _header_size(content)
    if width * height > limits.max_pixels:
        problem = f"{width} x {height} pixels, more than {limits.max_pixels:,}"
        raise InputError(problem, key="image", mend="send a smaller one")
    try:
        return np.asarray(decode_image(content))
    except InputError as error:
        raise InputError(error.problem, key="image", mend="send a whole JPEG or PNG") from None


def _header_size(content: bytes) -> tuple[int, int]:
    try:
        with Image.open(BytesIO(content), formats=FORMATS) as opened:
            return opened.size
    except Exception:
        return 0, 0  # the decoder says better what is wrong


def fetch(url: str, hosts: frozenset[str], most: int) -> bytes:
    """Fetch a picture from a host of the allow list, from a public address, without following redirects.

    Args:
        url: ``http`` or ``https``.
        hosts: ``HOST`` for the scheme's port, or ``HOST:PORT``.
        most: Bytes.

    Raises:
        InputError: The host is not on the list, its name leads to an address that is not public, or it gives no file.
    """
    mend = "send the picture itself, or name its host in REGIONCLIP_SERVE_HOSTS of the server"
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS[parts.scheme]
    except (ValueError, KeyError):
        raise InputError("no address of http or https", key="image", mend=mend) from None
    host = parts.hostname or ""
    named = {f"{host}:{port}"} | ({host} if port == _PORTS[parts.scheme] else set())
    if "@" in parts.netloc or not named & hosts:
        raise InputError("its host is not on the server's list", key="image", mend=mend)
    try:
        return _get(parts.scheme, host, port, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), most)
    except (OSError, client.HTTPException, ValueError) as error:
        late = isinstance(error, TimeoutError)
        problem = f"its host {f'gives it not in {_FETCH_SECONDS:g} seconds' if late else 'does not give it'}"
        raise InputError(problem, key="image", mend="send the picture itself") from None


def _get(scheme: str, host: str, port: int, target: str, most: int) -> bytes:
    address, deadline = public_address(host, port), time.monotonic() + _FETCH_SECONDS
    kind = client.HTTPSConnection if scheme == "https" else client.HTTPConnection
    connection = kind(host, port, timeout=_FETCH_SECONDS)
    # The address that was looked at, not one that the name has by now.
    connection.sock = socket.create_connection((address, port), _FETCH_SECONDS)
    # The timeout above is for each packet; a host may send them one by one.
    end = threading.Timer(_FETCH_SECONDS, _cut, [connection])
    end.start()
    try:
        if scheme == "https":
            connection.sock = ssl.create_default_context().wrap_socket(connection.sock, server_hostname=host)
        connection.request("GET", target, headers={"Accept": "image/*"})
        answer, content = connection.getresponse(), bytearray()
        if answer.status != 200:
            raise InputError(f"its host answers {answer.status}", key="image", mend="send the picture itself")
        while chunk := answer.read1(1 << 16):
            content += chunk
            if len(content) > most:
                raise InputError(f"more than {most:,} bytes", key="image", mend="send a smaller picture")
        if time.monotonic() > deadline:
            raise TimeoutError
        return bytes(content)
    finally:
        end.cancel()
        connection.close()


def _cut(connection: client.HTTPConnection) -> None:
    with suppress(OSError, AttributeError):  # it has ended by itself
        connection.sock.shutdown(socket.SHUT_RDWR)


def public_address(host: str, port: int) -> str:
    """Return an address of a host all of whose addresses are public."""
    found = [entry[4][0] for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    for one in found:
        address = ipaddress.ip_address(str(one).partition("%")[0])
        address = getattr(address, "ipv4_mapped", None) or address
        if not address.is_global or address.is_multicast:
            raise InputError("its host has an address that is not public", key="image", mend="send the picture itself")
    return str(found[0])
