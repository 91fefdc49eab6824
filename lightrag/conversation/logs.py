"""Applies the ``logging`` option to the library's own logger; the application's handlers are left alone."""

from __future__ import annotations

import logging
from pathlib import Path

from lightrag.conversation.options import LoggingOptions
from lightrag.errors import ConfigurationError

LOGGER = logging.getLogger("lightrag.conversation")
"""Counts and identifiers only: what users say is in no log line."""


def configure_logging(options: LoggingOptions) -> None:
    """Set levels and add the handlers that are asked for, each once.

    Raises:
        ConfigurationError: a level is unknown, or the folder cannot be made.
    """
    own = _level(options.level, "level")
    file = _level(options.file_level or options.level, "file_level")
    console = _level(options.console_level or options.level, "console_level")
    others = {name: _level(level, f"logger_levels.{name}") for name, level in options.logger_levels.items()}
    # A logger that is stricter than its handlers would starve them.
    wanted = [file] * options.file_enabled + [console] * options.console_enabled
    LOGGER.setLevel(min([own, *wanted]))
    for name, level in {**dict.fromkeys(options.suppress_loggers, logging.WARNING), **others}.items():
        logging.getLogger(name).setLevel(level)
    if options.file_enabled:
        _add(_file_handler(options), file, options)
    if options.console_enabled:
        _add(logging.StreamHandler(), console, options)


def _level(name: str, option: str) -> int:
    level = logging.getLevelNamesMapping().get(name.upper())
    if level is None:
        raise ConfigurationError(f"logging.{option} {name!r} is unknown: use DEBUG, INFO, WARNING or ERROR")
    return level


def _file_handler(options: LoggingOptions) -> logging.Handler:
    folder = Path(options.log_dir).expanduser().absolute()
    name = folder / f"{options.log_filename_prefix}.log"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Opened at the first line, so that a second memory over the same file does not empty it.
        return logging.FileHandler(name, options.file_mode, encoding=options.file_encoding, delay=True)
    except (OSError, LookupError) as error:
        raise ConfigurationError(f"logging.log_dir {str(folder)!r} cannot be used: {error}") from error


def _add(handler: logging.Handler, level: int, options: LoggingOptions) -> None:
    target = getattr(handler, "baseFilename", None)
    for known in LOGGER.handlers:
        if type(known) is type(handler) and getattr(known, "baseFilename", None) == target:
            handler.close()
            handler = known
    handler.setLevel(level)
    handler.setFormatter(logging.Formatter(options.format, options.date_format))
    if handler not in LOGGER.handlers:
        LOGGER.addHandler(handler)


__all__ = ["LOGGER", "configure_logging"]
