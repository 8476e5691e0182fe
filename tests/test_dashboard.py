"""What TensorBoard's own readers find of a sweep."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams import (
    api_pb2,
    backend_context,
    list_session_groups,
    metadata,
    plugin_data_pb2,
)

from digitpairs import records
from digitpairs.dashboard import means
from digitpairs.dashboard.events import EventFile, EventsLogger, tag_of
from digitpairs.dashboard.means import MeanCurves
from tests.conftest import SMALL, SMALL_DATA_AND_MODEL, contents


def events_of(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}).Reload()


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """The last value of each step by tag."""
    events = events_of(folder)
    return {
        tag: {event.step: event.value for event in events.Scalars(tag)}
        for tag in events.Tags()["scalars"]
    }


def hparams_of(folder: Path) -> tuple[dict[str, object], int]:
    """The settings of a session and its status."""
    content = events_of(folder).PluginTagToContent(metadata.PLUGIN_NAME)
    start, end = (
        plugin_data_pb2.HParamsPluginData.FromString(content[tag])
        for tag in (metadata.SESSION_START_INFO_TAG, metadata.SESSION_END_INFO_TAG)
    )
    values = {
        name: getattr(value, value.WhichOneof("kind"))
        for name, value in start.session_start_info.hparams.items()
    }
    return values, end.session_end_info.status


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Path:
    """The outputs of two configurations with three seeds each; the loss weights move in one."""
    from digitpairs.cli import main

    output = tmp_path_factory.mktemp("outputs")
    settings = ["aux=lambda,dwa", "optimizer.lr=0.01", "data.validation=0.2", "seed=0..2"]
    arguments = [*SMALL_DATA_AND_MODEL, "trainer.max_epochs=4", *settings, "-m", f"output={output}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["train.py", *arguments])
        main()
    return output


@pytest.mark.parametrize(
    "metric, tag",
    [
        ("train/comparison_error", "errors/comparison/train"),
        ("test/error", "errors/test"),
        ("validation/loss", "losses/validation"),
        ("train/digit1_loss", "losses/digit1/train"),
        ("learning_rate", "rate/learning_rate"),
        ("aux/digit1_weight", "weights/digit1"),
        ("train/f1", "metrics/f1/train"),
    ],
)
def test_tags(metric, tag):
    assert tag_of(metric) == tag


@pytest.mark.slow
def test_groups_of_tags_have_the_order_in_which_people_look(sweep):
    tags = {tag for folder in sweep.glob("*/*/*/") for tag in scalars(folder)}
    groups = sorted({tag.partition("/")[0] for tag in tags})
    assert groups == ["errors", "losses", "rate", "spread", "weights"]


def test_weights_are_shown_from_where_they_move(sweep):
    for folder, config in configs(sweep).items():
        moving = [tag for tag in scalars(folder) if tag.startswith("weights/")]
        assert bool(moving) == config["aux"]["_target_"].endswith("DynamicWeightAverage")
        history = records.read_metrics(folder)
        for tag in moving:
            values = scalars(folder)[tag]
            name = f"aux/{tag.removeprefix('weights/')}_weight"
            for epoch, value in values.items():
                assert value == pytest.approx(history[epoch][name], rel=1e-6)
            assert max(values) == 3 and len(set(values.values())) > 1


def configs(sweep: Path) -> dict[Path, dict]:
    return {folder: records.read_config(folder) for folder in sweep.glob("*/*/seed=*")}


def test_hparams_are_what_varies_and_what_was_typed_with_their_types(sweep):
    sessions = {folder: hparams_of(folder) for folder in configs(sweep)}
    for folder, (settings, status) in sessions.items():
        seed = float(folder.name.partition("=")[2])
        assert settings["seed"] == seed and settings["optimizer.lr"] == 0.01
        assert settings["aux"] in ("lambda", "dwa") and settings["model"] == "siamese_mlp"
        assert "aux.lambda" not in settings  # which the other weighting lacks
        assert status == api_pb2.STATUS_SUCCESS
        assert "output" not in settings and not any(key.endswith("_target_") for key in settings)
    assert {settings["seed"] for settings, _ in sessions.values()} == {0.0, 1.0, 2.0}


def test_each_run_has_its_row_in_the_hparams_of_tensorboard(sweep):
    """TensorBoard's own backend lists a group for each run, with the test's errors."""
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(sweep)).Reload()
    provider = MultiplexerDataProvider(multiplexer, str(sweep))
    context = backend_context.Context(TBContext(data_provider=provider))
    request = api_pb2.ListSessionGroupsRequest(
        slice_size=100, allowed_statuses=[api_pb2.STATUS_SUCCESS]
    )
    groups = list_session_groups.Handler(RequestContext(), context, "", request).run()
    rows = [
        {value.name.tag: value.value for value in group.metric_values}
        for group in groups.session_groups
        if len(group.sessions) == 1
    ]
    assert len(rows) == 6
    assert sorted(row["errors/comparison/test"] for row in rows) == pytest.approx(
        sorted(result["test/comparison_error"] for result in contents(sweep).values())
    )


def test_the_mean_of_a_configuration_is_that_of_its_runs(sweep):
    folders = sorted({folder.parent for folder in configs(sweep)})
    for folder in folders:
        histories = [records.read_metrics(run) for run in sorted(folder.glob("seed=*"))]
        written = scalars(folder / means.MEAN)
        for name in ("train/comparison_error", "validation/loss"):
            values = np.array([[row[name] for row in history] for history in histories])
            tag = tag_of(name)
            expected = {"": values.mean(0)} | {
                f"/{end}": values.mean(0) + sign * values.std(0, ddof=1)
                for end, sign in (("low", -1), ("high", 1))
            }
            for end, numbers in expected.items():
                own = written[f"spread/{tag}{end}" if end else tag]
                assert [own[epoch] for epoch in range(4)] == pytest.approx(numbers.tolist())


def test_the_layout_has_a_band_for_each_error_first_the_comparison(sweep):
    folder = next(sweep.glob("*/*/mean"))
    (event,) = events_of(folder).Tensors("custom_scalars__config__")
    layout = Layout.FromString(event.tensor_proto.string_val[0])
    errors, losses = layout.category
    written = scalars(folder)
    for chart in (*errors.chart, *losses.chart):
        (series,) = chart.margin.series
        assert {series.value, series.lower, series.upper} <= written.keys()
    assert errors.title.startswith("errors") and losses.title.startswith("losses")


def row(epoch: int, error: float) -> Mapping[str, float]:
    return {"epoch": epoch, "train/error": error}


def test_means_are_written_again_when_a_run_is_added_begins_again_or_fails(tmp_path):
    curves = MeanCurves(tmp_path, {-1: [row(0, 10.0), row(1, 8.0)]})
    curves.write()
    assert not (tmp_path / "mean").exists()  # a single run has no band
    for epoch, error in enumerate((20.0, 18.0)):
        curves.add(0, row(epoch, error))
    curves.write()
    assert scalars(tmp_path / "mean")["errors/train"] == {0: 15.0, 1: 13.0}
    curves.add(0, row(0, 30.0))  # its array failed
    curves.add(1, row(0, 50.0))
    curves.write()
    assert scalars(tmp_path / "mean")["errors/train"] == {0: 30.0, 1: 8.0}
    curves.drop(1)
    curves.write()
    assert scalars(tmp_path / "mean")["errors/train"] == {0: 20.0, 1: 8.0}
    assert len(list((tmp_path / "mean").iterdir())) == 1


def test_means_are_written_while_the_runs_train_but_not_at_each_row(tmp_path, monkeypatch):
    now = 0.0
    monkeypatch.setattr(means.time, "monotonic", lambda: now)
    curves = MeanCurves(tmp_path, {})
    for now in (1.0, 2.0):
        curves.add(int(now), row(0, now))
    assert not (tmp_path / "mean").exists()
    now = 11.0
    curves.add(1, row(1, 3.0))
    assert scalars(tmp_path / "mean")["errors/train"] == {0: 1.5, 1: 3.0}


@pytest.mark.slow
def test_a_resumed_sweep_has_the_means_of_all_runs(command, tmp_path):
    sweep = [*SMALL, "-m", "seed=0..3"]
    assert command(*sweep)[0] == 0
    (mean,) = (tmp_path / "outputs").glob("*/*/mean")
    before = scalars(mean)
    for seed in (1, 2):
        (result,) = (tmp_path / "outputs").glob(f"*/*/seed={seed}/result.json")
        result.unlink()
    assert command(*sweep)[0] == 0 and scalars(mean) == before
    assert len(contents(tmp_path / "outputs")) == 4
    assert len(list(mean.iterdir())) == 2  # the means and the pictures, each once


def test_a_failed_run_has_that_status(tmp_path):
    logger = EventsLogger(tmp_path, {"seed": 0})
    logger.end(failed=True)
    settings, status = hparams_of(tmp_path)
    assert settings == {"seed": 0.0} and status == api_pb2.STATUS_FAILURE


def test_an_event_file_that_cannot_be_written_is_named(tmp_path):
    file = EventFile(tmp_path)
    next(tmp_path.iterdir()).unlink()
    tmp_path.rmdir()
    with pytest.raises(OSError, match="events"):
        file.scalars(0, {"errors/test": 1.0})
