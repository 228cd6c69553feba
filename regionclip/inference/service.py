"""The service: a detector behind HTTP, with dynamic batching, limits, a key and metrics."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import time
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import cache, partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import uvicorn
from fastapi import FastAPI, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from regionclip.errors import InputError
from regionclip.inference import THRESHOLD, Limits
from regionclip.inference.api import SETTINGS, RegionCLIP
from regionclip.inference.batching import Batcher
from regionclip.inference.results import Result
from regionclip.inference.service_door import IDLE_SECONDS, KEY, OPEN, BoundedHttp, Door, Problem, problem_answer
from regionclip.inference.service_inputs import (
    FORMS,
    JSON,
    MULTIPART,
    ClassifyRequest,
    DetectRequest,
    Encoded,
    FeaturesRequest,
    InferRequest,
    VocabularyRequest,
    decode,
    fetch,
    read_form,
    require_answerable,
    wrong_form,
)

if TYPE_CHECKING:
    from regionclip.inference.vocabulary import Vocabulary

HOSTS = "REGIONCLIP_SERVE_HOSTS"
_LOOPBACK = ("localhost", "127.0.0.1", "::1", "[::1]")
_MOST_KEPT = 64  # vocabularies
_READERS = min(4, os.cpu_count() or 1)  # threads that decode
_FETCHERS = 8  # threads that wait for other hosts
_SHUTDOWN_SECONDS = 30
Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,99}$")]


class Box(BaseModel):
    """Corners in pixels."""

    xmin: float
    ymin: float
    xmax: float
    ymax: float


class Detection(BaseModel):
    """An object, as transformers' ``zero-shot-object-detection`` gives it."""

    score: float
    label: str
    box: Box


class _Answer(BaseModel):
    width: int
    height: int
    time: float  # seconds


class DetectAnswer(_Answer):
    """Objects, the surest first."""

    detections: list[Detection]


class FeaturesAnswer(_Answer):
    """One embedding a box, not normalised."""

    features: list[list[float]]


class ClassifyAnswer(_Answer):
    """How likely each box shows each name."""

    names: list[str]
    scores: list[list[float]]


class VocabularyAnswer(BaseModel):
    """A vocabulary that is kept."""

    name: str
    names: list[str]
    background: list[str]


class Service:
    """What the routes do. The model is absent until it is loaded; until then requests for it are answered 503."""

    def __init__(self, limits: Limits, hosts: frozenset[str] = frozenset()) -> None:
        self.model: RegionCLIP | None = None
        self.limits, self._hosts = limits, hosts
        self._kept: dict[str, tuple[Vocabulary, VocabularyAnswer]] = {}
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        sizes = Histogram(
            "regionclip_batch_pictures",
            "Pictures, or other questions, that went to the model together",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self.registry,
        )
        self._batcher = Batcher(limits.max_batch, limits.max_wait, sizes.observe)
        waiting = Gauge("regionclip_queue_length", "Questions that wait for the model", registry=self.registry)
        waiting.set_function(lambda: len(self._batcher))
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="decode")
        self._fetchers = ThreadPoolExecutor(_FETCHERS, thread_name_prefix="fetch")
        # A picture waits as it was sent, and is decoded when it is in one of the next two batches.
        self._decoded = asyncio.Semaphore(2 * limits.max_batch)

    async def load(self, opening: Callable[[], RegionCLIP]) -> None:
        """Open the model and use it once, so that the first request is as fast as others."""

        def opened(_: list[None]) -> list[RegionCLIP]:
            model = opening()
            model(np.zeros((64, 64, 3), np.uint8), ["object"])
            return [model]

        self.model = await self._batcher(opened, None)

    async def health(self) -> dict[str, bool]:
        """The process answers."""
        return {"alive": True}

    async def ready(self) -> Response:
        """The model is loaded; until then 503."""
        ready = self.model is not None
        return JSONResponse({"ready": ready}, 200 if ready else 503)

    async def metrics(self) -> Response:
        """Numbers for Prometheus."""
        return Response(generate_latest(self.registry), media_type=CONTENT_TYPE_LATEST)

    async def detect(self, request: Request) -> Response:
        """Find what has a name or is in a vocabulary."""
        begin = time.perf_counter()
        form, upload = await read_form(request, DetectRequest, self.limits.max_names)
        found = await self._found(form, upload)
        return _answer({"detections": found.to_hf()}, found.size, begin)

    async def infer(self, request: Request) -> Response:
        """Find objects: the request and the answer of Roboflow's inference servers."""
        begin = time.perf_counter()
        form, _ = await read_form(request, InferRequest, self.limits.max_names)
        least = THRESHOLD if form.confidence is None else form.confidence
        wanted = DetectRequest(image=form.image, names=form.text, threshold=least)
        wanted.require_few(self.limits.max_names)
        found = await self._found(wanted, None)
        width, height = found.size
        predictions = [
            {
                "x": (x1 + x2) / 2,
                "y": (y1 + y2) / 2,
                "width": x2 - x1,
                "height": y2 - y1,
                "confidence": score,
                "class": found.vocabulary[label],
                "class_id": label,
                "detection_id": str(uuid.uuid4()),
            }
            for (x1, y1, x2, y2), score, label in zip(
                found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
            )
        ]
        image = {"width": width, "height": height}
        return JSONResponse({"time": time.perf_counter() - begin, "image": image, "predictions": predictions})

    async def features(self, request: Request) -> Response:
        """Embed boxes."""
        begin = time.perf_counter()
        form, _ = await read_form(request, FeaturesRequest, self.limits.max_names)

        def work(model: RegionCLIP, pictures: list[Any]) -> list[bytes]:
            return [to_json(model.features(picture, form.boxes).tolist()) for picture in pictures]

        rows, size = await self._asked(work, form.image, None)
        return _answer({}, size, begin, features=rows)

    async def classify(self, request: Request) -> Response:
        """Name boxes."""
        begin = time.perf_counter()
        form, _ = await read_form(request, ClassifyRequest, self.limits.max_names)
        names = self._names(form)
        listed = names if isinstance(names, (list, dict)) else names.names
        require_answerable(len(form.boxes), len(listed))

        def work(model: RegionCLIP, pictures: list[Any]) -> list[bytes]:
            found = (model.classify(one, form.boxes, names, form.background) for one in pictures)
            return [to_json(scores.tolist()) for scores in found]

        rows, size = await self._asked(work, form.image, None)
        return _answer({"names": list(listed)}, size, begin, scores=rows)

    async def put_vocabulary(self, request: Request, name: Name) -> Response:
        """Keep a vocabulary until the service ends; one of the same name is replaced."""
        form, _ = await read_form(request, VocabularyRequest, self.limits.max_names)
        if form.names is None:
            raise InputError("there is no name", key="names", mend="give each thing to look for once")
        model = self._model
        made = await self._batcher(lambda _: [model.vocabulary(form.names, form.background)], None)
        new = name not in self._kept
        if new and len(self._kept) >= _MOST_KEPT:
            raise HTTPException(409, f"{_MOST_KEPT} vocabularies are kept; delete one")
        self._kept[name] = made, VocabularyAnswer(name=name, names=list(made.names), background=form.background)
        return JSONResponse(self._kept[name][1].model_dump(), 201 if new else 200)

    async def get_vocabulary(self, name: Name) -> Response:
        """Say what a vocabulary holds."""
        return JSONResponse(self._of(name)[1].model_dump())

    async def delete_vocabulary(self, name: Name) -> Response:
        """Forget a vocabulary."""
        self._of(name)
        del self._kept[name]
        return Response(status_code=204)

    @property
    def _model(self) -> RegionCLIP:
        if self.model is None:
            raise HTTPException(503, "the model is not loaded yet", {"Retry-After": "5"})
        return self.model

    def _of(self, name: str) -> tuple[Vocabulary, VocabularyAnswer]:
        if name not in self._kept:
            raise HTTPException(404, "no such vocabulary is kept")
        return self._kept[name]

    def _names(self, form: DetectRequest | ClassifyRequest) -> Any:
        if (form.names is None) == (form.vocabulary is None):
            raise InputError("either names or a vocabulary", key="names", mend="give one of them")
        return form.names if form.vocabulary is None else self._of(form.vocabulary)[0]

    async def _found(self, form: DetectRequest, upload: bytes | None) -> Result:
        names, settings = self._names(form), {key: getattr(form, key) for key in SETTINGS}

        def work(model: RegionCLIP, pictures: list[Any]) -> list[Result]:
            size = len(pictures)
            return list(model.detect(pictures, names, background=form.background, batch_size=size, **settings))

        key = (names if form.names is None else None, form.model_dump_json(exclude={"image", "vocabulary"}))
        found, _ = await self._asked(work, form.image if upload is None else upload, key)
        return found

    async def _asked(
        self, work: Callable[[RegionCLIP, list[Any]], list[Any]], image: str | bytes | Encoded, key: Any
    ) -> tuple[Any, tuple[int, int]]:
        """Decode a picture and ask the model; returns what it says, and the picture's width and height."""
        work = partial(work, self._model)
        loop = asyncio.get_running_loop()
        if isinstance(image, Encoded) and image.type == "url":
            image = await loop.run_in_executor(self._fetchers, fetch, image.value, self._hosts, self.limits.max_bytes)
        content = image.value if isinstance(image, Encoded) else image
        async with self._decoded:
            pixels = await loop.run_in_executor(self._readers, decode, content, self.limits)
            return await self._batcher(work, pixels, key), (pixels.shape[1], pixels.shape[0])


def _answer(found: dict[str, Any], size: tuple[int, int], begin: float, **rendered: bytes) -> Response:
    """Render an answer; ``rendered`` are values that are JSON already, as large ones are made beside the loop."""
    found |= {"width": size[0], "height": size[1], "time": time.perf_counter() - begin}
    content = to_json(found, inf_nan_mode="null")
    for key, value in rendered.items():
        content = b"".join((content[:-1], b',"', key.encode(), b'":', value, b"}"))
    return Response(content, media_type=JSON)


async def _http_problem(_: Request, error: Any) -> Response:
    if isinstance(error, HTTPException):
        return problem_answer(error.status_code, error.detail, headers=error.headers)
    wrong = wrong_form(error.errors())
    return problem_answer(422, wrong.problem, wrong.key, wrong.mend)


def build_app(service: Service, key: str | None, lifespan: Any = None) -> FastAPI:
    """Return the ASGI app.

    Args:
        service: What it does.
        key: What clients must send; None: nothing, and then only names of this machine are answered to, and no page
            from elsewhere that is open in a browser here.
        lifespan: Of Starlette.
    """
    app = FastAPI(
        title="RegionCLIP", version=version("regionclip"), docs_url=None, redoc_url=None, lifespan=lifespan,
        redirect_slashes=False,
    )  # fmt: skip
    kept = "/vocabularies/{name}"
    for method, path, endpoint, form, answer in (
        ("GET", "/health", service.health, None, None),
        ("GET", "/ready", service.ready, None, None),
        ("GET", "/metrics", service.metrics, None, None),
        ("POST", "/detect", service.detect, DetectRequest, DetectAnswer),
        ("POST", "/infer", service.infer, InferRequest, None),
        ("POST", "/features", service.features, FeaturesRequest, FeaturesAnswer),
        ("POST", "/classify", service.classify, ClassifyRequest, ClassifyAnswer),
        ("PUT", kept, service.put_vocabulary, VocabularyRequest, VocabularyAnswer),
        ("GET", kept, service.get_vocabulary, None, VocabularyAnswer),
        ("DELETE", kept, service.delete_vocabulary, None, None),
    ):
        refusals = {status: {"model": Problem} for status in _statuses(path, form)}
        app.add_api_route(
            path, endpoint, methods=[method], response_model=answer, responses=refusals,
            status_code=204 if method == "DELETE" else 200, openapi_extra=form and {"requestBody": _body(form)},
        )  # fmt: skip

    app.add_exception_handler(HTTPException, _http_problem)
    app.add_exception_handler(RequestValidationError, _http_problem)
    app.openapi = cache(partial(_openapi, app, key is not None))
    app.add_middleware(Door, limits=service.limits, registry=service.registry, key=key)
    if key is None:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=_LOOPBACK)
    return app


def _statuses(path: str, form: type[BaseModel] | None) -> list[int]:
    asked = [] if form is None else [400, 408, 413, 415, 422, 500, 503, 504]
    kept = [] if "{" not in path else [404, 409, 422]
    return sorted({*asked, *kept, *([] if path in OPEN else [401]), *([503] if path == "/ready" else [])})


def _body(form: type[BaseModel]) -> dict[str, Any]:
    content: dict[str, Any] = {JSON: {"schema": {"$ref": f"#/components/schemas/{form.__name__}"}}}
    if form is DetectRequest:
        several = {"type": "array", "items": {"type": "string"}}
        number, file = {"type": "number"}, {"type": "string", "format": "binary"}
        fields = {"image": file, "names": several, "background": several, "vocabulary": {"type": "string"}}
        fields |= {key: {"type": "boolean"} if key == "agnostic" else number for key in SETTINGS}
        content[MULTIPART] = {"schema": {"type": "object", "properties": fields, "required": ["image"]}}
    return {"required": True, "content": content}


def _openapi(app: FastAPI, closed: bool) -> dict[str, Any]:
    """Return the schema with the forms of requests, which the routes read themselves, with limits."""
    schema = get_openapi(title=app.title, version=app.version, description=__doc__, routes=app.routes)
    reference = "#/components/schemas/{model}"
    _, forms = models_json_schema([(form, "validation") for form in FORMS], ref_template=reference)
    schema["components"]["schemas"] |= forms["$defs"]
    if closed:
        schema["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        schema["security"] = [{"key": []}]
    return schema


def serve(opening: Callable[[], RegionCLIP], host: str, port: int, limits: Limits) -> None:
    """Serve until SIGINT or SIGTERM; requests that are inside are answered then.

    Args:
        opening: Gives the model; called when the service answers already.
        host: Address to listen on; one that others reach only with a key in the environment.
        port: 0: any that is free; it is printed.
        limits: Of requests.

    Raises:
        InputError: There is no such address, it is taken, or it asks for a key; or what ``opening`` raises.
    """
    key = os.environ.get(KEY) or None
    listening = _listen(host, port, key)
    hosts = frozenset(part.strip().lower() for part in os.environ.get(HOSTS, "").split(",") if part.strip())
    service, failed = Service(limits, hosts), []

    async def loaded() -> None:
        try:
            await service.load(opening)
            print("The model is loaded.", flush=True)
        except Exception as error:
            failed.append(error)
            server.should_exit = True

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(loaded())
        yield
        loading.cancel()

    server = uvicorn.Server(configured(build_app(service, key, lifespan), limits))
    shown = f"[{host}]" if ":" in host else host
    print(f"http://{shown}:{listening.getsockname()[1]}", flush=True)
    with listening:
        server.run(sockets=[listening])
    if failed:
        raise failed[0]


def configured(app: FastAPI, limits: Limits) -> uvicorn.Config:
    """Return how uvicorn runs the app."""
    return uvicorn.Config(
        app,
        http=BoundedHttp,
        ws="none",
        lifespan="on",
        log_config=None,  # its own would close the logs of all others in this process
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=4 * limits.max_queue + 64,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )


def _listen(host: str, port: int, key: str | None) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise InputError(f"there is no address {host:.80}", key="--host", mend="give one of this machine") from None
    if key is None and not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        problem = f"{host} is open to others, and there is no key that they must send"
        raise InputError(problem, key=KEY, mend="set it in the environment, or leave --host out")
    try:
        return socket.create_server(address[:2], family=family, backlog=1024)
    except OSError as error:
        problem = f"{host}:{port} cannot be listened on ({error.strerror})"
        raise InputError(problem, key="--port", mend="give another port") from None
