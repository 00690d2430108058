"""Passes over the graph of reals, in the order they run, and the proof over the graph of integers."""

from mcucompile.ir import Graph, Pass
from mcucompile.passes.check_accumulators import check_accumulators
from mcucompile.passes.copy_input import copy_input
from mcucompile.passes.fold_affine import fold_affine
from mcucompile.passes.fuse_lookups import fuse_lookups
from mcucompile.passes.fuse_relu import fuse_relu
from mcucompile.passes.fuse_through_copies import fuse_through_copies
from mcucompile.passes.give_formats import give_formats, give_input_format
from mcucompile.passes.hoist_elementwise import hoist_elementwise
from mcucompile.passes.keep_last_step import keep_last_step
from mcucompile.passes.pool_images import pool_images
from mcucompile.passes.remove_views import remove_views
from mcucompile.passes.share_scales import share_scales, wanted_scales
from mcucompile.passes.sink_transposes import sink_transposes

REAL_PASSES: tuple[Pass, ...] = (
    give_input_format,  # first: layers that read the input may read it as planes
    remove_views,  # before moving: fewer views to look through
    sink_transposes,  # before folding: a layer and its batch-norm must be on the same layout
    pool_images,  # after it: pools are over channels-last images
    keep_last_step,  # after sinking: a transposition may stand between a layer and what is taken of it
    hoist_elementwise,  # before folding: an Affine or Relu must touch its layer
    give_input_format,  # again: what stood between the input and its format may have moved
    fold_affine,  # before fusing: a batch-norm stands between a layer and its rectifier
    fuse_relu,
    fuse_through_copies,  # after both: a batch-norm and its rectifier are one operator
    fuse_lookups,  # after both: a layer takes in a scale or a rectifier for nothing
    remove_views,  # last of those that move: hoisting leaves views beside views
    share_scales,  # after folding: what it adds would be folded
    give_formats,  # then: what the model rounds stays apart until nothing moves any more
    copy_input,  # last: no pass may find that a copy does nothing
)


def simplify(graph: Graph) -> Graph:
    """Run all passes over a graph of reals."""
    for step in REAL_PASSES:
        graph = step(graph)
    return graph


__all__ = ["REAL_PASSES", "check_accumulators", "simplify", "wanted_scales"]
