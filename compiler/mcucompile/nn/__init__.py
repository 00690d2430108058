"""Torch layers to train with, and their way in from weights and out to ONNX."""

from mcucompile.nn.export import export_onnx
from mcucompile.nn.four_view import FourView
from mcucompile.nn.standardize import Standardize, fold_standardize
from mcucompile.nn.weights import load_weights

__all__ = ["FourView", "Standardize", "export_onnx", "fold_standardize", "load_weights"]
