"""The table of similarities. Adding one: a folder here, its C term in runtime_c/similarity/, one line below."""

from mcucompile.similarities.adder import ADDER
from mcucompile.similarities.binary import BINARY
from mcucompile.similarities.dot import DOT
from mcucompile.similarities.euclid import EUCLID
from mcucompile.similarities.mfo import MFO
from mcucompile.similarities.minconv import MINCONV
from mcucompile.similarities.similarity import Similarity
from mcucompile.similarities.ternary import TERNARY
from mcucompile.similarities.trig import TRIG

SIMILARITIES: dict[str, Similarity] = {
    similarity.name: similarity for similarity in (DOT, ADDER, EUCLID, MINCONV, MFO, TRIG, BINARY, TERNARY)
}

__all__ = ["SIMILARITIES", "Similarity"]
