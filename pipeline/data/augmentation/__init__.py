"""Augmentation as a pure function of (seed, epoch, sample): drawn by a policy on the host, rendered on the device."""

from pipeline.data.augmentation.policy import Policy
from pipeline.data.augmentation.rendering import Maps, render
from pipeline.data.augmentation.statistics import POLICY, Statistics, fit_statistics, load_statistics, save_statistics
from pipeline.data.augmentation.strengths import Variants, of_split

__all__ = [
    "POLICY",
    "Maps",
    "Policy",
    "Statistics",
    "Variants",
    "fit_statistics",
    "load_statistics",
    "of_split",
    "render",
    "save_statistics",
]
