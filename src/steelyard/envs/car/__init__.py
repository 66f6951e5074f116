"""The 1/10 car: a MuJoCo scene and an exact single-track twin, driven by the same command laws."""
