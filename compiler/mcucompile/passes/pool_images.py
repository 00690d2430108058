"""Compute the mean over all pixels of an image as a pool over them, which can sum up row by row."""

from mcucompile.ir import Graph, Op
from mcucompile.ops import AveragePool, Reduce, Reshape
from mcucompile.ops.window import Window
from mcucompile.passes.rewrite import Change, Draft, rewrite


def pool_images(graph: Graph) -> Graph:
    """Return the graph with each mean over the pixels of one channels-last image as an AveragePool.

    Needs: sink_transposes, so that images are channels-last. Gives: layers that the planner can run row by row
    up to the classifier.
    """
    return rewrite(graph, _pool)


def _pool(graph: Draft, op: Op) -> Change | None:
    view = graph.producer(op.inputs[0])
    if not isinstance(op, Reduce) or op.function != "mean" or not isinstance(view, Reshape):
        return None
    image = graph.tensors[view.inputs[0]].shape
    if len(image) != 4 or image[0] != 1 or view.shape != (1, image[1] * image[2], image[3]):
        return None
    _, height, width, channels = image
    inner = f"{op.output}@pool"
    pool = AveragePool(
        name=op.name,
        inputs=view.inputs,
        output=inner,
        source=op.source,
        window=Window((height, width), (height, width)),
        counts=((height,), (width,)),
    )
    flat = Reshape(name=f"{op.name}_flat", inputs=(inner,), output=op.output, source=op.source, shape=(1, channels))
    return Change({op: (pool, flat)}, shapes={inner: (1, 1, 1, channels)})
