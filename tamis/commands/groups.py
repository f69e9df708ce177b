"""The groups of options in `--help`, in their order."""

from cyclopts import Group

WHAT = Group("What", sort_key=1)
ENCODER = Group("Encoder", sort_key=2)
DIFFICULTY = Group("Difficulty", sort_key=3)
MANIFEST = Group("Manifest", sort_key=4)
TRAINING = Group("Training", sort_key=5)
ON_SERVER = Group("Server", sort_key=6)
RUNNING = Group("Running", sort_key=7)
