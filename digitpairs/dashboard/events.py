"""Event files, and the logger that writes one for each run."""

from __future__ import annotations

import functools
import socket
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import google_crc32c
from pytorch_lightning.loggers.logger import Logger
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2, summary_v2
from tensorboard.plugins.text.metadata import PLUGIN_NAME as TEXT

from digitpairs.files import path_in_errors

Setting = bool | int | float | str
# TensorBoard sorts the groups of tags by name: errors come first.
GROUPS = {"error": "errors", "loss": "losses"}
WEIGHTS = "weights"


@functools.cache
def tag_of(metric: str) -> str:
    """The tag of a metric: "errors/comparison/test" for "test/comparison_error"."""
    split, _, name = metric.rpartition("/")
    if split == "aux":
        return f"{WEIGHTS}/{name.removesuffix('_weight')}"
    if not split:
        return f"rate/{name}" if name == "learning_rate" else f"metrics/{name}"
    part, _, kind = name.rpartition("_")
    group = GROUPS.get(kind)
    return "/".join(filter(None, [group, part, split] if group else ["metrics", name, split]))


class EventFile:
    """An event file that is open only while it is written.

    `SummaryWriter` keeps an open file and a thread for each run, and writes one event per value at
    ten times the cost, which is too much for an array of a thousand runs.
    """

    def __init__(self, folder: Path, suffix: str = "") -> None:
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}{suffix}"
        self._path = folder / name
        self._write([Event(wall_time=time.time(), file_version="brain.Event:2")])

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write values by tag."""
        self.write(step, [_scalar(tag, value) for tag, value in values.items()])

    def write(self, step: int, values: Iterable[Summary.Value]) -> None:
        """Write summaries."""
        self._write([_event(step, Summary(value=values))])

    def rewrite_scalars(self, rows: Mapping[int, Mapping[str, float]]) -> None:
        """Write values by step and tag, which replace all scalars that the file had before."""
        start = Event(wall_time=time.time(), session_log=SessionLog(status=SessionLog.START))
        values = {step: [_scalar(*each) for each in row.items()] for step, row in rows.items()}
        self._write([start, *(_event(step, Summary(value=each)) for step, each in values.items())])

    def _write(self, events: Iterable[Event]) -> None:
        with path_in_errors(self._path), self._path.open("ab") as file:
            file.write(b"".join(_record(event.SerializeToString()) for event in events))


class EventsLogger(Logger):
    """Writes a run's rows of metrics as events, and what HPARAMS shows.

    Args:
        folder: of the run.
        settings: the columns of the run in HPARAMS.
        on_row: is called with each row.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Setting] | None = None,
        on_row: Callable[[Mapping[str, float]], None] | None = None,
    ) -> None:
        super().__init__()
        self._file = EventFile(folder)
        self._on_row = on_row
        self._weights: dict[str, float] = {}  # of the previous row
        self._moves = False  # whether one of them has changed
        if settings:
            trial = "/".join(folder.parts[-3:])  # unique, or runs would be averaged
            self._file.write(0, summary_v2.hparams_pb(settings, trial).value)

    @property
    def name(self) -> str:
        return "events"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Does nothing: the config has its own file."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write the row as one event, and a weight of the loss only from where it changes."""
        step = step or 0
        values = {tag_of(name): value for name, value in metrics.items() if name != "epoch"}
        weights = {tag: values.pop(tag) for tag in list(values) if tag.startswith(f"{WEIGHTS}/")}
        self._file.scalars(step, values | self._moving(weights, step))
        if self._on_row is not None:
            self._on_row(metrics)

    def end(self, failed: bool) -> None:
        """Write the run's status in HPARAMS."""
        status = api_pb2.STATUS_FAILURE if failed else api_pb2.STATUS_SUCCESS
        info = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
        content = plugin_data_pb2.HParamsPluginData(session_end_info=info)
        value = Summary.Value(
            tag=metadata.SESSION_END_INFO_TAG,
            metadata=metadata.create_summary_metadata(content),
            tensor=metadata.NULL_TENSOR,
        )
        self._file.write(0, [value])

    def _moving(self, weights: dict[str, float], step: int) -> dict[str, float]:
        """The weights if one of them has changed; before the first change the old ones too."""
        before, self._weights = self._weights, weights
        if not weights or self._moves:
            return weights
        if not before or before == weights:
            return {}
        self._moves = True
        self._file.scalars(step - 1, before)
        return weights


def text_value(tag: str, markdown: str) -> Summary.Value:
    """A summary for the TEXT tab."""
    return _string_value(tag, markdown.encode(), TEXT)


def layout_value(layout: bytes) -> Summary.Value:
    """The summary that arranges the charts of the CUSTOM SCALARS tab; a serialised `Layout`."""
    return _string_value("custom_scalars__config__", layout, "custom_scalars")


def image_value(tag: str, png: bytes, width: int, height: int) -> Summary.Value:
    """A summary for the IMAGES tab."""
    image = Summary.Image(encoded_image_string=png, width=width, height=height, colorspace=3)
    return Summary.Value(tag=tag, image=image)


def _string_value(tag: str, content: bytes, plugin: str) -> Summary.Value:
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=plugin))
    tensor = TensorProto(dtype=DT_STRING, string_val=[content], tensor_shape=TensorShapeProto())
    return Summary.Value(tag=tag, metadata=metadata, tensor=tensor)


def _record(content: bytes) -> bytes:
    """A record of the TFRecord format, as TensorBoard's slower `RecordWriter` writes it."""
    length = struct.pack("<Q", len(content))
    return length + _checksum(length) + content + _checksum(content)


def _checksum(content: bytes) -> bytes:
    """The CRC-32C, rotated by 15 bits plus a constant, as the format asks."""
    crc = google_crc32c.value(content)
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    return struct.pack("<I", masked)


def _scalar(tag: str, value: float) -> Summary.Value:
    return Summary.Value(tag=tag, simple_value=value)


def _event(step: int, values: Summary) -> Event:
    return Event(wall_time=time.time(), step=step, summary=values)
