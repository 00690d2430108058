"""Decides what runs and where it lives: kernels, arena offsets, totals against the board."""

from mcucompile.plan.budget import Budget, Limits, budget
from mcucompile.plan.choose import choose_streams
from mcucompile.plan.memory import Arena, plan_arena
from mcucompile.plan.select import PlannedLayer, parse_kernels, select_kernels

__all__ = [
    "Arena",
    "Budget",
    "Limits",
    "PlannedLayer",
    "budget",
    "choose_streams",
    "parse_kernels",
    "plan_arena",
    "select_kernels",
]
