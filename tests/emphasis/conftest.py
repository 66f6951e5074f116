"""The grid's battery is about learners, too: their examples lie beside their own battery."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "agents"))
