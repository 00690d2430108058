"""Decides what runs and where it lives: kernels, arena offsets, totals against the board."""

from mcucompile.plan.budget import Budget, Limits, budget
from mcucompile.plan.choose import choose_streams
from mcucompile.plan.memory import Arena, plan_arena
from mcucompile.plan.pool import pool_convolutions
from mcucompile.plan.select import PlannedLayer, candidates_of, layers_of, parse_kernels, price, select_kernels

__all__ = [
    "Arena",
    "Budget",
    "Limits",
    "PlannedLayer",
    "budget",
    "candidates_of",
    "choose_streams",
    "layers_of",
    "parse_kernels",
    "plan_arena",
    "pool_convolutions",
    "price",
    "select_kernels",
]
