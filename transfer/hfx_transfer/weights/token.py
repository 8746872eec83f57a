"""Where the token comes from: never from a command line, which other users of a host can read."""

import os
from collections.abc import Mapping
from pathlib import Path

from hfx_sgl.errors import ConfigError

TOKEN_VARIABLE = "HFX_TRANSFER_TOKEN"


def read_token(token_file: Path | None, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the token in a file, else the one of the environment; None when there is neither.

    Raises:
        ConfigError: the file cannot be read, or the token is empty or has unprintable characters.
    """
    if token_file is not None:
        name = str(token_file)
        try:
            token = token_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError(f"token_file: {token_file} cannot be read ({exc})") from exc
    elif TOKEN_VARIABLE in environ:
        name, token = TOKEN_VARIABLE, environ[TOKEN_VARIABLE].strip()
    else:
        return None
    if not token or not token.isascii() or not token.isprintable():
        raise ConfigError(f"{name}: must be a line of printable ASCII characters")
    return token
