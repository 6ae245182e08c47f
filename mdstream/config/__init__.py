"""Settings: read once, at the entry point, from options, the environment, `.env` and `mdstream.toml`, in that order.

In the environment a setting has the upper-case name of its group and field (groups.py); in `mdstream.toml` the same in
lower case, without MDSTREAM_.
"""

from mdstream.config.groups import Role
from mdstream.config.settings import Settings
from mdstream.config.sources import ENV_FILE, NAMES, TOML_FILE, load

__all__ = ["ENV_FILE", "NAMES", "TOML_FILE", "Role", "Settings", "load"]
