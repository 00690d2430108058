"""The table of similarities. Adding one: a folder here, its C term in runtime_c/similarity/, one line below."""

from mcucompile.similarities.dot import DOT
from mcucompile.similarities.similarity import Similarity

SIMILARITIES: dict[str, Similarity] = {similarity.name: similarity for similarity in (DOT,)}

__all__ = ["SIMILARITIES", "Similarity"]
