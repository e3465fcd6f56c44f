"""Serve a local page and an HTTP endpoint that classify images or texts: regraft serve run=RUN."""

import errno
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from omegaconf import DictConfig, ListConfig

from regraft import __version__
from regraft.cli.command import RUN_REFERENCE, Command
from regraft.config.trust import named_in
from regraft.core.console import steps_shown
from regraft.core.errors import ConfigError
from regraft.core.startup import keep_freed_memory, quick_imports
from regraft.core.text import say
from regraft.runs.folder import run_of

if TYPE_CHECKING:
    from fastapi import FastAPI

_LOCAL = ("127.0.0.1", "localhost", "::1")
_EVERYWHERE = ("0.0.0.0", "::")
_BACKLOG = 2048
_SECONDS_TO_END = 5
_MANY_FILES = 8192
_SENTENCES = {
    errno.EADDRINUSE: "port {port} of {host} is taken. Use another port=, or port=0 for a free one",
    errno.EACCES: "this process isn't allowed to use port {port} of {host}. Use port=8000",
    errno.EADDRNOTAVAIL: "{host} isn't an address of this machine. Use host=127.0.0.1, or host=0.0.0.0 for all",
}


def run(arguments: Sequence[str]) -> None:
    """Serves until Ctrl-C; see the command's help."""
    config = _composed(arguments)
    _require_packages()
    with _listening(config.host, config.port) as listener:
        with steps_shown() as tell:
            tell(f"Loading {config.ckpt_path}")
            app, what = _app(config, named_in(arguments), tell)
        _run(app, listener, what)


def _composed(arguments: Sequence[str]) -> DictConfig:
    config = COMMAND.composed(arguments)
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
        raise ConfigError("serve", f"it needs {error.name}", fix="Run pip install 'regraft[serve]'.") from error


def _listening(host: str, port: int) -> socket.socket:
    """Returns a listening socket, before the model is loaded, so that the error of a taken port comes at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        sentence = _SENTENCES.get(error.errno or 0, "can't listen at {host} ({reason}). Use host=127.0.0.1")
        reason = error.strerror or type(error).__name__
        raise ConfigError("host", sentence.format(host=host, port=port, reason=reason)) from error


def _app(config: DictConfig, trust: Sequence[str], tell: Callable[[str], None]) -> "tuple[FastAPI, str]":
    """Returns the application, and the run's name with what computes it if that isn't torch."""
    with quick_imports():
        from regraft.deployment.load import device_named, trained_model
        from regraft.deployment.serve.app import make_app
        from regraft.deployment.serve.limits import Hosts, Limits

    bounds = ("max_megabytes", "max_photos", "max_megapixels", "max_waiting", "upload_seconds", "decode_seconds")
    of_texts = ("max_texts", "max_characters")
    limits = Limits(**{key: config[key] for key in (*bounds, *of_texts)})
    names = [*_LOCAL, socket.gethostname(), config.host, *config.allowed_hosts]
    hosts = Hosts([name.strip("[]") for name in names], takes_addresses=config.host in _EVERYWHERE)
    model = trained_model(
        config.ckpt_path, trust=trust, device=device_named(config.device), engine=config.engine, tell=tell
    )
    if model.device.type == "cpu":
        keep_freed_memory()
    run = run_of(model.checkpoint)
    name = model.checkpoint.stem if run is None else f"{run.path.parent.name}/{run.path.name}"
    app = make_app(model, run=name, version=__version__, limits=limits, hosts=hosts)
    return app, name if model.engine is None else f"{name}, computed by {model.engine},"


def _run(app: "FastAPI", listener: socket.socket, what: str) -> None:
    import uvicorn

    from regraft.deployment.serve.connections import MAX_HEADER_BYTES, BoundedConnection

    _allow_many_files()
    host, port = listener.getsockname()[:2]
    # A browser can't open 0.0.0.0 or ::.
    host = dict(zip(_EVERYWHERE, ("127.0.0.1", "::1"), strict=True)).get(host, host)
    shown = f"[{host}]" if ":" in host else host
    say(f"Serving {what} at http://{shown}:{port} (the page; /docs for programs). Ctrl-C ends it.")
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=BoundedConnection,
            ws="none",
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",  # otherwise a second Ctrl-C prints a traceback
            timeout_graceful_shutdown=_SECONDS_TO_END,
        )
    )
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:  # the usual end
        pass
    finally:
        app.state.worker.close()
    say("Ended.")


def _allow_many_files() -> None:
    """Raises the limit of open files, as each connection is one."""
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
    details=f"""
/ is the page, /predict takes photos (POST, a form's files) or texts (POST, JSON), /health has the status, /docs and
/openapi.json describe them. It needs pip install 'regraft[serve]', and no network. Ctrl-C ends it. {RUN_REFERENCE}""",
    config_name="serve",
    takes_run=True,
)
