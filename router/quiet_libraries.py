"""The library that loads the model, kept from writing to stderr by itself."""

from __future__ import annotations


def quiet_libraries() -> None:
    """Keep its bars and hints away from where ours are."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def log_with_ours() -> None:
    """As `quiet_libraries`, and have its errors go the way of our log."""
    from transformers.utils import logging

    quiet_libraries()
    logging.disable_default_handler()
    logging.enable_propagation()
