"""Experts that need no training, in quality tiers that are known exactly."""

from steelyard.envs.scripted.policies import scripted_policies
from steelyard.envs.scripted.tiers import TIERS, ScriptedExpert, Tier

__all__ = ["TIERS", "ScriptedExpert", "Tier", "scripted_policies"]
