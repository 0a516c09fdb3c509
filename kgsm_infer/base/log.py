"""The logger of the package, ``kgsm_infer``.

Library code writes to it and configures nothing. The commands print its warnings as notes, and all
of it with ``--debug``.
"""

from __future__ import annotations

import logging

LOGGER = logging.getLogger("kgsm_infer")
LOGGER.addHandler(logging.NullHandler())
