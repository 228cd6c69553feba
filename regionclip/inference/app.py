"""The page of `regionclip app`: pictures and words in, boxes out, in a browser and without any other network."""

from __future__ import annotations

import html
import os
import tempfile
import threading
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property, partial, wraps
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import gradio as gr
import numpy as np
from gradio import processing_utils
from PIL import Image, ImageDraw
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse

from regionclip import artifacts
from regionclip.data.layout import load_classes
from regionclip.data.pictures import decode_image
from regionclip.errors import InputError
from regionclip.inference import THRESHOLD
from regionclip.inference.api import REGISTRY, RegionCLIP
from regionclip.inference.files import MANIFEST, workspace_files
from regionclip.inference.results import Result
from regionclip.inference.sources import Example, open_source, picture_files
from regionclip.inference.vocabulary import split_names

LOGIN = "REGIONCLIP_APP_LOGIN"
LEAST, MOST = 0.01, 300
"""The sliders' ends: what a search keeps, and so what they can show without another one."""

_MOST_FRAMES, _MOST_EXAMPLES = 500, 50
_UPLOAD = 200 * 1024 * 1024  # bytes
_FORMAT = "jpeg"  # of drawings: a tenth of the time of PNG and WebP, which a slider would feel
_LEAST_SIDE, _MOST_SIDE = 800, 1600  # pixels of what is shown, about
_SESSIONS, _WAITING, _AT_ONCE = 64, 32, 2
_HOUR = 3600
_PICTURES_SHOWN, _NAMES_SHOWN = 6, 12  # of a data set
_FOLDER = "GRADIO_TEMP_DIR"
_LOCAL = ("127.0.0.1", "localhost")
# The browser may ask nobody but this page, whatever the libraries of the page would like to fetch.
_HEADERS = {
    "content-security-policy": "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'self'; "
    "form-action 'self'; base-uri 'self'",
    "referrer-policy": "no-referrer",
}
_STYLE = "[role=gridcell], [role=columnheader] { font-size: 12px !important } button { font-weight: 400 !important }"
_COLUMNS = ["#", "name", "score", "box"]
_INTRO = """### RegionCLIP
Drop a picture, say what to look for, and see where it is. `a, b` are two names; a line `sofa: couch, settee` is one
name with phrases, of which the best counts. Background words take false alarms away and are not shown."""
_OWN = """Click two opposite corners on the picture; as many boxes as you like. Then name them by the names on the left,
or keep them as **examples of a name**: from then on every search of this page looks for that name, too, by its
pictures."""


class Shown(NamedTuple):
    """An object that a user pointed at, as an example of a name."""

    name: str
    example: Example


class Asked(NamedTuple):
    """What is looked for, as the page's fields hold it."""

    names: str
    background: str
    agnostic: bool
    examples: Sequence[Shown]

    def something(self) -> bool:
        """Whether there is a name."""
        return bool(self.names.strip() or self.examples)

    def settings(self, threshold: float, most: int) -> dict[str, Any]:
        """Arguments of `RegionCLIP.detect`: names with what they mean, background words, and what is kept."""
        names: dict[str, list[Any]] = dict(parse_names(self.names))
        for one in self.examples:
            names.setdefault(one.name, []).append(one.example)
        kept = {"threshold": threshold, "max_detections": int(most), "agnostic": self.agnostic}
        return {"names": names, "background": _split(self.background), **kept}


class Page:
    """What the page does, an event a method. Threads share it; what belongs to one visitor is handed in and out.

    Args:
        model: The detector.
        other: Opens the one that is shown beside it; or why there is none.
    """

    def __init__(self, model: RegionCLIP, other: Callable[[], RegionCLIP] | InputError) -> None:
        self.model, self.other = model, other

    @cached_property
    def _other(self) -> RegionCLIP:
        return self.other()  # there is no button for it where there is none

    def first(self, picture: str | None, threshold: float, most: int, *asked: Any) -> tuple[Any, ...]:
        """Search a picture that was just put there; nothing is wrong yet if no name is."""
        if picture is None or not Asked(*asked).something():
            return None, None, None
        return self.find(picture, threshold, most, *asked)

    def find(self, picture: str | None, threshold: float, most: int, *asked: Any) -> tuple[Any, ...]:
        """Search a picture, and show what is sure enough: all that was found, drawing, table."""
        result = self.model(_given(picture), **Asked(*asked).settings(LEAST, MOST))
        return result, *self.show(result, threshold, most)

    def show(self, result: Result | None, threshold: float, most: int) -> tuple[Any, ...]:
        """Show of what was found what is sure enough; no model is asked."""
        if result is None:
            return None, None
        chosen = _chosen(result, threshold, most)
        return _drawing(chosen), _table(chosen)

    def alone(self, result: Result | None, threshold: float, most: int, row: gr.SelectData) -> Image.Image | None:
        """Show the object of a row of the table alone; the table may be sorted in the browser."""
        return None if result is None else _drawing(_chosen(result, threshold, most)[int(row.row_value[0]) - 1])

    def compare(self, picture: str | None, threshold: float, most: int, *asked: Any) -> tuple[Any, ...]:
        """Search a picture with both detectors: both results, both drawings."""
        settings = Asked(*asked).settings(LEAST, MOST)
        results = [one(_given(picture), **settings) for one in (self._other, self.model)]
        return results, *self.show_both(results, threshold, most)

    def show_both(self, results: list[Result] | None, threshold: float, most: int) -> tuple[Any, ...]:
        """As `show`, of both detectors."""
        return tuple(_drawing(_chosen(one, threshold, most)) for one in results) if results else (None, None)

    def board(self, picture: str | None) -> tuple[Any, ...]:
        """Begin anew on a picture: corner, boxes, drawing, table."""
        return None, [], None if picture is None else _board(picture, [], None), None

    def corner(
        self, picture: str | None, first: list[float] | None, boxes: list[list[float]], at: gr.SelectData
    ) -> tuple[Any, ...]:
        """Take a click as a box's first corner, or as its second one: corner, boxes, drawing."""
        times = _times(decode_image(_given(picture)).size)
        x, y = (side / times for side in at.index[:2])
        if first is None:
            first = [x, y]
        else:
            (left, right), (top, bottom) = sorted((first[0], x)), sorted((first[1], y))
            boxes, first = [*boxes, [left, top, right, bottom]] if left < right and top < bottom else boxes, None
        return first, boxes, _board(_given(picture), boxes, first)

    def name(self, picture: str | None, boxes: list[list[float]], *asked: Any) -> tuple[Any, ...]:
        """Say what the visitor's boxes show: drawing, table."""
        found = self.model(_given(picture), boxes=_drawn(boxes), **Asked(*asked).settings(0.0, MOST))
        return _drawing(found), _table(found)

    def remember(
        self, picture: str | None, boxes: list[list[float]], name: str, examples: list[Shown]
    ) -> tuple[Any, ...]:
        """Keep the boxes as examples of a name: examples, their pictures, and the board as `board` gives it."""
        if not name.strip():
            raise InputError("the example has no name", mend="type the name that the boxes are examples of")
        pixels = np.asarray(decode_image(_given(picture)))
        new = [Shown(name.strip(), Example(pixels, tuple(box))) for box in _drawn(boxes)]
        if len(examples) + len(new) > _MOST_EXAMPLES:
            raise InputError(f"there are more than {_MOST_EXAMPLES} examples", mend="forget them and begin anew")
        examples = [*examples, *new]
        return examples, [_crop(one) for one in examples], *self.board(picture)

    def forget(self) -> tuple[Any, ...]:
        """Drop all examples: examples, their pictures."""
        return [], []

    def others(
        self,
        files: list[str] | None,
        threshold: float,
        most: int,
        *asked: Any,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  (Gradio looks for it there)
    ) -> list[tuple[Image.Image, str]]:
        """Search several pictures: drawings with their captions. What cannot be read is named and left out."""
        if not files:
            raise InputError("there are no pictures", mend="drop some")
        rejected: list[InputError] = []
        results = self.model.detect(files, rejected=rejected, **Asked(*asked).settings(threshold, most))
        found = []
        for one in progress.tqdm(results, total=len(files), desc="pictures"):
            caption = f"{Path(one.source).name}: {len(one)} object{'s' * (len(one) != 1)}"
            found.append((_drawing(one), caption))
        for error in rejected:
            gr.Warning(html.escape(_words(error)))
        return found

    def video(
        self,
        file: str | None,
        every: int,
        threshold: float,
        most: int,
        *asked: Any,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[str, list[list[Any]]]:
        """Search every n-th frame of a video: a video of the drawings, and the table of all frames."""
        if file is None:
            raise InputError("there is no video", mend="drop one")
        every = int(every)
        # One more than are shown, to know whether there are more.
        frames = islice(open_source(file), 0, _MOST_FRAMES * every + 1, every)
        results = self.model.detect(frames, **Asked(*asked).settings(threshold, most))
        rows: list[list[Any]] = []

        def drawings() -> Iterator[Image.Image]:
            for number, one in enumerate(progress.tqdm(results, desc="frames", unit="frames")):
                if number == _MOST_FRAMES:
                    gr.Warning(f"Only {number} frames were searched. Take fewer of them for more of the video.")
                    return
                rows.extend([number * every, *row[1:]] for row in _table(one))
                yield _drawing(one, even=True)

        return _film(file, every, drawings()), rows


def parse_names(text: str) -> dict[str, list[str]]:
    """Read names as they are typed: ``a, b`` in one line or several, or a line ``name: phrase, phrase``.

    Raises:
        InputError: A name stands twice.
    """
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, colon, phrases = (part.strip() for part in line.partition(":"))
        meant = [(name, _split(phrases) or [name])] if colon else [(one, [one]) for one in _split(line)]
        for one, means in meant:
            if one in found:
                raise InputError(f"the name stands twice: {one!r:.80}", mend="give each thing to look for once")
            found[one] = means
    return found


def build(page: Page, pictures: Sequence[Path] = (), names: Sequence[str] = ()) -> gr.Blocks:
    """Lay the page out.

    Args:
        page: What it does.
        pictures: To try it with.
        names: To begin with.
    """
    with gr.Blocks(title="RegionCLIP", analytics_enabled=False, delete_cache=(_HOUR // 6, _HOUR)) as blocks:
        examples = gr.State([], time_to_live=_HOUR)
        with gr.Row():
            with gr.Column(scale=1, min_width=320):
                gr.Markdown(_INTRO)
                picture = gr.Image(type="filepath", label="Picture", height=240, elem_id="picture", buttons=[])
                # The visitor's own file: the house's opener knows EXIF, CMYK and 16 bits, and says what is broken. (A
                # subclass would make Gradio write a file beside this module.)
                picture.preprocess = lambda given: None if given is None else given.path
                words = gr.Textbox(", ".join(names), label="Names", lines=3, max_lines=8, elem_id="names")
                background = gr.Textbox(label="Background words", placeholder="wall, sky", elem_id="background")
                threshold = gr.Slider(LEAST, 1, THRESHOLD, step=0.01, label="Threshold", elem_id="threshold")
                most = gr.Slider(1, MOST, 100, step=1, label="Boxes at most", elem_id="most")
                agnostic = gr.Checkbox(label="One name a place", info="Of overlapping boxes only the surest stays.")
                if pictures:
                    gr.Examples([str(file) for file in pictures], picture, label="Try one", examples_per_page=24)
            with gr.Column(scale=3, min_width=480), gr.Tabs():
                asked = [words, background, agnostic, examples]
                kept = [threshold, most]
                _found_tab(page, picture, asked, kept)
                _beside_tab(page, picture, asked, kept)
                _own_tab(page, picture, asked, kept)
                _video_tab(page, asked, kept)
    return blocks.queue(max_size=_WAITING, default_concurrency_limit=_AT_ONCE * 4)


def _found_tab(page: Page, picture: gr.Image, asked: list[Any], kept: list[Any]) -> None:
    with gr.Tab("Find"):
        result = gr.State(None, time_to_live=_HOUR)
        button = _button("Find", elem_id="find")
        with gr.Row():
            drawing = _picture(label="Found", elem_id="found", scale=3)
            table = _objects(elem_id="objects", scale=2)
        gr.Markdown("Click a row to see it alone; move a slider to see them all again.")
    inputs, outputs = [picture, *kept, *asked], [result, drawing, table]
    _on([button.click, asked[0].submit], page.find, inputs, outputs, model=True)
    _on([picture.change, asked[2].input], page.first, inputs, outputs, model=True)
    _on([event for one in kept for event in (one.input, one.release)], page.show, [result, *kept], [drawing, table])
    _on([table.select], page.alone, [result, *kept], [drawing])


def _beside_tab(page: Page, picture: gr.Image, asked: list[Any], kept: list[Any]) -> None:
    with gr.Tab("CLIP beside RegionCLIP"):
        if isinstance(page.other, InputError):
            gr.Markdown(f"There is no detector from CLIP here: {html.escape(_words(page.other))}")
            return
        results = gr.State(None, time_to_live=_HOUR)
        button = _button("Compare", elem_id="compare")
        with gr.Row():
            clip = _picture(label="Fine-tuned from CLIP", elem_id="clip")
            drawings = [clip, _picture(label="Fine-tuned from RegionCLIP", elem_id="regionclip")]
    _on([button.click], page.compare, [picture, *kept, *asked], [results, *drawings], model=True)
    _on([event for one in kept for event in (one.input, one.release)], page.show_both, [results, *kept], drawings)


def _own_tab(page: Page, picture: gr.Image, asked: list[Any], kept: list[Any]) -> None:
    examples = asked[-1]
    with gr.Tab("Own boxes, picture prompts"):
        corner, boxes = gr.State(None), gr.State([])
        gr.Markdown(_OWN)
        with gr.Row():
            board = _picture(label="Click two corners", elem_id="board", scale=3)
            with gr.Column(scale=2):
                with gr.Row():
                    naming = _button("Name my boxes", elem_id="name-boxes")
                    clear = _button("Remove them", elem_id="remove-boxes", variant="secondary")
                table = _objects(elem_id="named")
                name = gr.Textbox(label="Examples of", placeholder="a name", elem_id="example-name")
                with gr.Row():
                    keep = _button("Keep as examples", elem_id="remember")
                    drop = _button("Forget them", elem_id="forget", variant="secondary")
                kept_pictures = _pictures(label="Examples", elem_id="examples", columns=4)
        files = gr.File(label="Search these pictures", file_count="multiple", file_types=["image"], elem_id="files")
        search = _button("Search the pictures", elem_id="search-pictures")
        gallery = _pictures(label="Found", elem_id="gallery", columns=3)
    anew = [corner, boxes, board, table]
    _on([picture.change, clear.click], page.board, [picture], anew)
    _on([board.select], page.corner, [picture, corner, boxes], [corner, boxes, board])
    _on([naming.click], page.name, [picture, boxes, *asked], [board, table], model=True)
    _on([keep.click, name.submit], page.remember, [picture, boxes, name, examples], [examples, kept_pictures, *anew])
    _on([drop.click], page.forget, [], [examples, kept_pictures])
    _on([search.click], page.others, [files, *kept, *asked], [gallery], model=True)


def _video_tab(page: Page, asked: list[Any], kept: list[Any]) -> None:
    with gr.Tab("Video"):
        with gr.Row():
            film = gr.Video(sources=["upload"], label="Video", elem_id="video", buttons=[])
            found = gr.Video(label="Found", interactive=False, elem_id="film", buttons=["download"])
        every = gr.Slider(1, 60, 5, step=1, label="Every n-th frame", elem_id="every")
        button = _button("Search the video", elem_id="search-video")
        table = _objects(elem_id="frames", headers=["frame", *_COLUMNS[1:]])
    _on([button.click], page.video, [film, every, *kept, *asked], [found, table], model=True)


_picture = partial(gr.Image, interactive=False, format=_FORMAT, buttons=["download", "fullscreen"])
_pictures = partial(gr.Gallery, interactive=False, format="png", object_fit="contain", buttons=["fullscreen"])
_button = partial(gr.Button, variant="primary", size="md")
_objects = partial(
    gr.Dataframe, headers=_COLUMNS, datatype=["number", "str", "number", "str"], type="array", interactive=False,
    label="Objects", max_height=420, buttons=["copy"], column_widths=["12%", "27%", "18%", "43%"],
)  # fmt: skip


def _on(events: list[Any], run: Callable[..., Any], inputs: list[Any], outputs: list[Any], model: bool = False) -> None:
    """Let events call a method; those that ask a model wait for each other, a slider's last place always counts.

    What a visitor gave wrong is said in words, and nothing of the machine.
    """

    @wraps(run)
    def told(*arguments: Any, **settings: Any) -> Any:
        try:
            return run(*arguments, **settings)
        except InputError as error:
            raise gr.Error(html.escape(_words(error)), title="That did not work", print_exception=False) from None

    how = {"concurrency_id": "model", "concurrency_limit": _AT_ONCE} if model else {"show_progress": "hidden"}
    gr.on(events, told, inputs, outputs, api_name=run.__name__, trigger_mode="always_last", **how)


def _words(error: InputError) -> str:
    """The error without the folder of this machine that a file lies in."""
    file = None if error.file is None else Path(error.file).name
    record = Path(str(error.record)).name if error.record is not None else None
    return str(InputError(error.problem, file=file, record=record, mend=error.mend))


def _chosen(result: Result, threshold: float, most: int) -> Result:
    return result.filter(threshold=threshold)[: int(most)]


def _given(picture: str | None) -> str:
    if picture is None:
        raise InputError("there is no picture", mend="drop one, or take one of those below")
    return picture


def _drawn(boxes: list[list[float]]) -> list[list[float]]:
    if not boxes:
        raise InputError("there is no box", mend="click two corners on the picture")
    return boxes


def _split(text: str) -> list[str]:
    return [name for name in split_names(text.replace("\n", ",")) if name]


def _table(result: Result) -> list[list[Any]]:
    rows = zip(result.names, result.scores.tolist(), result.boxes.tolist(), strict=True)
    return [
        [number, name, round(score, 3), ", ".join(f"{side:.0f}" for side in box)]
        for number, (name, score, box) in enumerate(rows, 1)
    ]


def _drawing(result: Result, even: bool = False) -> Image.Image:
    """Draw in a size that is fit to be looked at; ``even``: with sides that every video codec takes."""
    times = _times(result.size)
    if times > 1:
        larger = Image.fromarray(result.pixels).resize([side * times for side in result.size])
        masks = None if result.masks is None else result.masks.repeat(times, axis=1).repeat(times, axis=2)
        result = replace(result, pixels=np.asarray(larger), boxes=result.boxes * times, masks=masks)
    drawing = result.plot()
    drawing.thumbnail((_MOST_SIDE, _MOST_SIDE))
    return drawing.crop((0, 0, drawing.width // 2 * 2, drawing.height // 2 * 2)) if even else drawing


def _times(size: Sequence[int]) -> int:
    """How many times as large a small picture is shown, so that names on it can be read and corners be clicked."""
    return max(1, _LEAST_SIDE // max(size))


def _board(picture: str, boxes: Sequence[Sequence[float]], corner: Sequence[float] | None) -> Image.Image:
    """Draw own boxes, and the corner of one that is begun; only enlarged, for its pixels are those that are clicked."""
    board = decode_image(picture)
    times = _times(board.size)
    board = board.resize([side * times for side in board.size])
    pen, width = ImageDraw.Draw(board), max(2, round(max(board.size) / 300))
    for box in boxes:
        for colour, line in (("black", width + 2), ("yellow", width)):
            pen.rectangle([side * times for side in box], outline=colour, width=line)
    if corner is not None:
        x, y = corner[0] * times, corner[1] * times
        pen.ellipse((x - 2 * width, y - 2 * width, x + 2 * width, y + 2 * width), fill="yellow", outline="black")
    return board


def _crop(shown: Shown) -> tuple[Image.Image, str]:
    """Cut an example out, with its name."""
    pixels, box = shown.example
    left, top, right, bottom = (round(side) for side in box)
    return Image.fromarray(np.ascontiguousarray(pixels[top : bottom + 1, left : right + 1])), shown.name


def _film(file: str, every: int, frames: Iterator[Image.Image]) -> str:
    """Write frames to a new video, as fast as every n-th frame of ``file``."""
    capture = cv2.VideoCapture(file)
    rate = capture.get(cv2.CAP_PROP_FPS) or 25.0
    capture.release()
    out = Path(os.environ[_FOLDER]) / uuid.uuid4().hex / "found.webm"
    out.parent.mkdir(parents=True)
    writer = cv2.VideoWriter()
    try:
        for frame in frames:
            if not writer.isOpened():
                # Every browser plays it, and OpenCV's wheels can write it.
                writer.open(str(out), cv2.VideoWriter.fourcc(*"VP90"), max(rate / every, 1), frame.size)
            writer.write(np.asarray(frame)[..., ::-1])
    finally:
        writer.release()
    if not out.exists():
        raise InputError("there is no frame in the video", mend="give one that OpenCV reads, such as MP4")
    return str(out)


class _Guard:
    """Between the network and Gradio: only asked by the names of this machine, and asks nobody itself."""

    def __init__(self, app: Any, hosts: Collection[str]) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        asked = headers.get("host", "")
        # A page of another site in the same browser counts as a stranger, too.
        stranger = asked.partition(":")[0] not in self._hosts or headers.get("origin", asked).split("//")[-1] != asked
        # Gradio would fetch the address and hand it on.
        fetches = "file=http" in scope["path"].lower() or "/proxy=" in scope["path"].lower()
        if fetches or (self._hosts and stranger):
            return await PlainTextResponse("refused", 403)(scope, receive, send)

        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        return await self._app(scope, receive, sent)


async def _fetch_nothing(address: str) -> Any:
    raise gr.Error("Addresses are not opened; upload the file.", print_exception=False)


@contextmanager
def serving(page: Page, host: str, port: int, **layout: Any) -> Iterator[str]:
    """Serve a page for as long as the block lasts; gives its address. ``layout`` is for `build`.

    Raises:
        InputError: Other machines may ask and there is no login, the login is none, or the port is taken.
    """
    login = _login(host)
    guard = Middleware(_Guard, hosts=() if login else _LOCAL)
    # Whatever visitors bring or are shown lies in one folder, and goes with it.
    with tempfile.TemporaryDirectory(prefix="regionclip-app-") as folder:
        before, os.environ[_FOLDER] = os.environ.get(_FOLDER), folder
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        fetch, processing_utils.async_ssrf_protected_get = processing_utils.async_ssrf_protected_get, _fetch_nothing
        blocks = build(page, **layout)
        try:
            blocks.launch(
                server_name=host,
                server_port=port,
                auth=login,
                theme=gr.themes.Default(primary_hue="indigo"),
                css=_STYLE,
                footer_links=[],
                allowed_paths=[],
                max_file_size=_UPLOAD,
                state_session_capacity=_SESSIONS,
                app_kwargs={"middleware": [guard]},
                prevent_thread_lock=True,
                **dict.fromkeys(("share", "run_history", "enable_monitoring", "ssr_mode", "pwa", "mcp_server"), False),
                quiet=True,
                inline=False,
            )
            yield blocks.local_url
        except OSError as error:
            if blocks.is_running:
                raise
            raise InputError(f"port {port} of {host} cannot be had ({error})", mend="give another --port") from None
        finally:
            blocks.close(verbose=False)
            processing_utils.async_ssrf_protected_get = fetch
            os.environ[_FOLDER] = before or ""


def open_page(source: str | Path, dataset: str | None = None) -> tuple[Page, dict[str, Any]]:
    """Open the detector of a workspace, bundle or registry, and what of a workspace is good to begin with.

    Args:
        source, dataset: See `RegionCLIP.open`.

    Returns:
        The page, and the pictures and names for `build`.
    """
    model, root = RegionCLIP.open(source, dataset), Path(source)
    if str(source).startswith(REGISTRY) or (root / MANIFEST).exists():
        only = InputError("a bundle holds one detector", mend="open the page in the folder where the pipeline has run")
        return Page(model, only), {}
    dataset = model.files.dataset
    other: Callable[[], RegionCLIP] | InputError = partial(RegionCLIP.open, source, dataset, "clip")
    try:
        workspace_files(root, dataset, "clip")
    except InputError as error:
        other = error
    pictures: list[Path] = []
    for folder in sorted((root / artifacts.SETS).glob("*/val")):
        with suppress(InputError):  # a folder without pictures
            pictures += picture_files(folder)[:_PICTURES_SHOWN]
    names: tuple[str, ...] = ()
    with suppress(InputError):
        names = load_classes(dataset, root / artifacts.SETS).names[:_NAMES_SHOWN]
    return Page(model, other), {"pictures": pictures, "names": names}


def serve(source: str | Path, dataset: str | None, host: str, port: int) -> None:
    """Serve the page of a detector until it is interrupted; see `serving`."""
    _login(host)  # before the seconds that it takes to open a detector
    page, layout = open_page(source, dataset)
    with serving(page, host, port, **layout) as address:
        print(f"The page is at {address}; Ctrl-C ends it.", flush=True)
        threading.Event().wait()


def _login(host: str) -> tuple[str, str] | None:
    user, _, password = os.environ.get(LOGIN, "").partition(":")
    if LOGIN in os.environ and not (user and password):
        raise InputError("it is no login", key=LOGIN, mend="set it to USER:PASSWORD in the environment")
    if not user and host not in _LOCAL:
        mend = f"set {LOGIN} to USER:PASSWORD in the environment, or leave --host out"
        raise InputError(f"with the host {host} other machines may ask, and there is no login", mend=mend)
    return (user, password) if user else None
