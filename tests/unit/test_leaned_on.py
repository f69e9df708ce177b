"""What Tamis leans on though no documentation promises it: one test a leaning, which says what breaks without it.

All else is public behaviour of the standard library and of the dependencies, from the lowest releases allowed on.
"""

import importlib
import inspect
import io
import socket
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
import torch
import uvicorn
from cyclopts import App, UnknownCommandError
from dbos import DBOS, DBOSClient, DBOSConfig
from dbos import error as dbos_error
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from PIL import ExifTags, Image
from torch.nn.modules._functions import SyncBatchNorm
from torchvision import models

from service.main import _Server
from tamis.device import repeatable_convolutions
from tamis.encoders.files import RECOGNISED
from tamis.encoders.networks import library_spec, outline


def parameters(function: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(function).parameters)


def test_uvicorn_calls_shutdown_before_it_waits_for_open_responses() -> None:
    """service/main.py overrides it to end event streams; else each stop of a server would wait for its time-out."""
    app, begun = FastAPI(), threading.Event()
    app.state.stopping = stopping = threading.Event()

    @app.get("/")
    def stream() -> StreamingResponse:
        def chunks() -> Iterator[bytes]:
            begun.set()
            yield b"begun"
            assert stopping.wait(30)

        return StreamingResponse(chunks())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = _Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=60), app.state)
        running = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        running.start()
        with httpx.stream("GET", f"http://127.0.0.1:{listener.getsockname()[1]}/", timeout=20) as response:
            assert begun.wait(20)
            server.should_exit = True
            assert b"".join(response.iter_bytes()) == b"begun"
        running.join(20)
        assert not running.is_alive()


def test_zipfile_keeps_the_name_that_it_cuts_at_nul() -> None:
    """tamis/sources/zip_archive.py refuses such names by it."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("a.pngX.exe", b"")
    (member,) = zipfile.ZipFile(io.BytesIO(sink.getvalue().replace(b"gX", b"g\0"))).infolist()
    assert (member.filename, member.orig_filename) == ("a.png", "a.png\0.exe")


def test_pillow_turns_a_tiff_upright_while_it_loads_it() -> None:
    """tamis/images.py asks for the size of a TIFF after that, and does not turn it once more."""
    sink, exif = io.BytesIO(), Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (9, 5)).save(sink, "TIFF", exif=exif)
    image = Image.open(sink)
    image.load()
    assert image.size == (5, 9)
    assert image.getexif().get(ExifTags.Base.Orientation, 1) == 1


def test_torch_tells_what_the_processor_computes() -> None:
    """tamis/device.py chooses bf16 by it; the names are those of a docstring."""
    capabilities = torch.cpu.get_capabilities()
    if capabilities["architecture"] == "x86_64":
        assert {"avx512_bf16", "amx_bf16"} <= set(capabilities)


def test_convolutions_are_repeatable_in_a_context_and_cudnn_stays_on_in_it() -> None:
    """tamis/device.py; what is left out of that context is off in it, cuDNN too."""

    def now() -> tuple[bool, bool, bool]:
        cudnn = torch.backends.cudnn
        return cudnn.enabled, cudnn.benchmark, cudnn.deterministic

    before = now()
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False):
        with repeatable_convolutions():
            assert now() == (True, False, True)
        assert now() == (True, True, False)
    assert now() == before


def test_only_torchscript_has_an_archive_of_constants() -> None:
    """tamis/encoders/files.py knows a program by it, before torch loads anything."""

    def names(content: io.BytesIO) -> set[str]:
        return {name.rpartition("/")[2] for name in zipfile.ZipFile(content).namelist()}

    network, program, weights = torch.nn.Linear(2, 2), io.BytesIO(), io.BytesIO()
    torch.jit.save(torch.jit.script(network), program)
    torch.save(network.state_dict(), weights)
    assert "constants.pkl" in names(program)
    assert "constants.pkl" not in names(weights)


def test_torchscript_runs_without_its_optimiser() -> None:
    """tamis/encoders/program.py gets equal bits from a first and a later batch by it."""
    network = torch.jit.script(torch.nn.Linear(2, 2))
    with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]  # as there
        assert network(torch.zeros(1, 2)).shape == (1, 2)


def test_networks_make_their_weights_by_the_functions_that_an_outline_watches() -> None:
    """tamis/encoders/networks.py makes networks without memory, so that a hostile file cannot ask for much of it."""
    for name in RECOGNISED:
        network = outline(library_spec(f"torchvision:{name}"))
        assert all(weight.is_meta for weight in network.parameters()), name


def test_torchvision_and_timm_say_how_images_are_prepared() -> None:
    """tamis/encoders/networks.py reads fields of theirs that no documentation names."""
    prepared = models.ResNet18_Weights.DEFAULT.transforms()
    assert (prepared.crop_size, prepared.resize_size) == ([224], [256])
    assert (len(prepared.mean), len(prepared.std), prepared.interpolation.value) == (3, 3, "bilinear")
    timm = pytest.importorskip("timm")
    config = timm.get_pretrained_cfg("resnet18.tv_in1k").to_dict()
    found = timm.data.resolve_data_config(pretrained_cfg=config)
    assert {"input_size", "crop_mode", "crop_pct", "mean", "std", "interpolation"} <= set(found)
    assert "hf_hub_id" in config


def test_the_job_engine_has_the_calls_that_adoption_and_transactions_need() -> None:
    """tamis/store/jobs.py and worker/durable; what they do is tested by kill -9 in tests/faults."""
    assert {"conn_or_session", "options"} <= parameters(DBOSClient.enqueue_in_transaction)
    assert {"cancel_children"} <= parameters(DBOSClient.cancel_workflow)
    assert {"status", "executor_id", "load_input", "load_output"} <= parameters(DBOSClient.list_workflows)
    assert {"queue_name"} <= parameters(DBOSClient.resume_workflow)
    assert {"worker_concurrency", "polling_interval_sec"} <= parameters(DBOS.register_queue)
    assert {"retries_allowed", "max_attempts", "should_retry"} <= parameters(DBOS.step)
    assert {"executor_id", "application_version", "notification_listener_polling_interval_sec"} <= set(
        DBOSConfig.__annotations__
    )
    assert callable(DBOS.migrate)
    assert callable(DBOS.listen_queues)
    assert issubclass(dbos_error.DBOSWorkflowCancelledError, BaseException)
    assert issubclass(dbos_error.DBOSAwaitedWorkflowCancelledError, BaseException)


def test_every_sqlite_tells_the_time_that_the_job_engine_asks_for() -> None:
    """From Python 3.12 on it asks for what SQLite has from 3.42 on; tamis/store/catalog.py gives it to older ones."""
    assert importlib.import_module("tamis.store.catalog")
    with sa.create_engine("sqlite://").connect() as connection:
        told = connection.execute(sa.text("SELECT unixepoch('subsec')")).scalar_one()
        assert abs(told - time.time()) < 5
        connection.execute(
            sa.text("CREATE TABLE t (n INTEGER, at INTEGER NOT NULL DEFAULT (unixepoch('subsec') * 1000))")
        )
        connection.execute(sa.text("INSERT INTO t (n) VALUES (1)"))
        assert connection.execute(sa.text("SELECT at FROM t")).scalar_one() >= told * 1000


def test_cyclopts_answers_a_missing_command_with_its_help_and_tells_the_word_that_is_none() -> None:
    """tamis/commands/app.py tells by it that a command is missing, and which word is not understood."""
    app = App(name="x", help="X.", exit_on_error=False, print_error=False)

    @app.command
    def known() -> None:
        """K."""

    command, _, _ = app.parse_args([])
    assert getattr(command, "__func__", None) is App.help_print
    with pytest.raises(UnknownCommandError) as caught:
        app.parse_args(["knwon"])
    assert caught.value.unused_tokens == ["knwon"]
    assert "known" in list(caught.value.app or ())


def test_triton_has_tensor_descriptors() -> None:
    """tamis/scan/gpu_kernels.py loads its tiles by them; without a GPU nothing else would tell."""
    pytest.importorskip("triton")
    assert importlib.import_module("triton.tools.tensor_descriptor").TensorDescriptor.from_tensor
    language = importlib.import_module("triton.language")
    assert language.tensor_descriptor
    assert language.inline_asm_elementwise


def test_joint_statistics_on_a_gpu_are_called_as_torch_calls_them() -> None:
    """trainer/processes.py does, where a network calls for batch normalisation; else it would stop on several GPUs."""
    given = ["self", "input", "weight", "bias", "running_mean", "running_var", "eps", "momentum", "process_group"]
    assert list(inspect.signature(SyncBatchNorm.forward).parameters) == [*given, "world_size"]
