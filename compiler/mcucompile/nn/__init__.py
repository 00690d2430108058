"""Torch layers to train with, and their way out to ONNX."""

from mcucompile.nn.export import export_onnx
from mcucompile.nn.four_view import FourView
from mcucompile.nn.standardize import Standardize, fold_standardize

__all__ = ["FourView", "Standardize", "export_onnx", "fold_standardize"]
