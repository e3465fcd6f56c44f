"""Serve a local page and an HTTP endpoint that classify images: regraft serve run=RUN."""

import errno
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from omegaconf import DictConfig, ListConfig

from regraft import __version__
from regraft.cli.command import Command
from regraft.config import compose
from regraft.config.trust import look_beside, named_in
from regraft.core.errors import ConfigError
from regraft.core.startup import quick_imports
from regraft.runs.arguments import require_run, with_checkpoint
from regraft.runs.folder import run_of

if TYPE_CHECKING:
    from fastapi import FastAPI

_DETAILS = """
run=RUN            a run's folder, last, best, or a part of its name; ckpt_path=FILE takes a checkpoint
host=127.0.0.1     who can reach it: this machine alone; host=0.0.0.0 whoever reaches this machine
port=8000          0 takes a free one
allowed_hosts=[]   further names that it is called by, such as [my-machine.local,192.168.1.5]
max_megabytes=32   of a request
max_photos=16      in a request
max_megapixels=64  of a photo
max_waiting=64     requests for predictions at a time; more are answered by 503
upload_seconds=60  that a request may take to be sent
device=auto        cpu, cuda, cuda:1, mps, ...
trust=[...]        modules of yours that the checkpoint may name
output_dir=        where runs are looked for (outputs)

/ is the page, /predict takes photos (POST, a form's files), /health says whether it answers, /docs and /openapi.json
describe them. It needs no network, and pip install 'regraft[serve]'. Ctrl-C ends it."""
_LOCAL = ("127.0.0.1", "localhost", "::1")
_EVERYWHERE = ("0.0.0.0", "::")
_BACKLOG = 2048
_SECONDS_TO_END = 5
_MANY_FILES = 8192
_SENTENCES = {
    errno.EADDRINUSE: "port {port} of {host} is taken. Fix: another port=, or port=0 for a free one",
    errno.EACCES: "port {port} of {host} takes rights that this process lacks. Fix: port=8000",
    errno.EADDRNOTAVAIL: "{host} is no address of this machine. Fix: host=127.0.0.1, or host=0.0.0.0 for all of them",
}


def run(arguments: Sequence[str]) -> None:
    """Serves what the command line asks for, until Ctrl-C.

    Args:
        arguments: see the command's help.

    Raises:
        FileNotFoundError: there is no such run.
        ValueError: something else is wrong with the command, or the port can't be had.
    """
    config = _composed(arguments)
    _require_packages()
    with _listening(config.host, config.port) as listener:
        app, run = _app(config, named_in(arguments))
        _run(app, listener, run)


def _composed(arguments: Sequence[str]) -> DictConfig:
    COMMAND.require_keys(arguments)
    require_run(arguments)
    look_beside(named_in(arguments))
    config = compose.compose_once("serve", with_checkpoint(arguments), None)
    if not isinstance(config.host, str) or not config.host:
        raise ConfigError("host", got=config.host, allowed="127.0.0.1, or another address of this machine")
    if not isinstance(config.port, int) or isinstance(config.port, bool) or not 0 <= config.port < 2**16:
        raise ConfigError("port", got=config.port, allowed="0 (a free one) to 65535")
    if not isinstance(config.allowed_hosts, ListConfig) or not all(isinstance(n, str) for n in config.allowed_hosts):
        raise ConfigError("allowed_hosts", got=config.allowed_hosts, allowed="a list of names, [my-machine.local]")
    return config


def _require_packages() -> None:
    try:
        import fastapi  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ConfigError("serve", f"it needs {error.name}", fix="Fix: pip install 'regraft[serve]'.") from error


def _listening(host: str, port: int) -> socket.socket:
    """Returns a listening socket: before the model is loaded, so that a port that is taken is said at once.

    Raises:
        ValueError: it can't be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        sentence = _SENTENCES.get(error.errno or 0, "{host} can't be listened at ({reason}). Fix: host=127.0.0.1")
        reason = error.strerror or type(error).__name__
        raise ConfigError("host", sentence.format(host=host, port=port, reason=reason)) from error


def _app(config: DictConfig, trust: Sequence[str]) -> "tuple[FastAPI, str]":
    """Returns the application, and what its run is called."""
    with quick_imports():
        from regraft.deployment.load import device_named, trained_model
        from regraft.deployment.serve.app import make_app
        from regraft.deployment.serve.limits import Hosts, Limits

    bounds = ("max_megabytes", "max_photos", "max_megapixels", "max_waiting", "upload_seconds")
    limits = Limits(**{key: config[key] for key in bounds})
    names = [*_LOCAL, socket.gethostname(), config.host, *config.allowed_hosts]
    hosts = Hosts([name.strip("[]") for name in names], takes_addresses=config.host in _EVERYWHERE)
    model = trained_model(config.ckpt_path, trust=trust, device=device_named(config.device))
    run = run_of(model.checkpoint)
    name = model.checkpoint.stem if run is None else f"{run.path.parent.name}/{run.path.name}"
    return make_app(model, run=name, version=__version__, limits=limits, hosts=hosts), name


def _run(app: "FastAPI", listener: socket.socket, run: str) -> None:
    """Serves until the process is asked to end."""
    import uvicorn

    _allow_many_files()
    host, port = listener.getsockname()[:2]
    # All addresses at once are none that a browser takes.
    host = dict(zip(_EVERYWHERE, ("127.0.0.1", "::1"), strict=True)).get(host, host)
    shown = f"[{host}]" if ":" in host else host
    print(f"Serving {run} at http://{shown}:{port} (the page; /docs for programs). Ctrl-C ends it.", flush=True)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",  # a second Ctrl-C would be told with its traceback
            timeout_graceful_shutdown=_SECONDS_TO_END,
        )
    )
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:  # what it is ended by
        pass
    finally:
        app.state.worker.close()
    print("Ended.")


def _allow_many_files() -> None:
    """Makes room for as many connections as the system lets this process have; a connection is an open file."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _MANY_FILES:
        most = _MANY_FILES if hard == resource.RLIM_INFINITY else min(_MANY_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


COMMAND = Command(
    name="serve",
    run=run,
    usage="regraft serve run=RUN [host=127.0.0.1] [port=8000] [max_megabytes=32] [max_photos=16]",
    details=_DETAILS,
    config_name="serve",
    takes_run=True,
)
