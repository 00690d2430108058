"""Torch layers to train with, and their way in from weights and out to ONNX."""

from mcucompile.nn.activation import RectifiedAngle, Scale
from mcucompile.nn.conversion import convert, matched_init, set_batch_norm_gamma
from mcucompile.nn.export import export_onnx
from mcucompile.nn.four_view import FourView
from mcucompile.nn.layers import TORCH_SIMILARITIES, Conv1d, Conv2d, Linear
from mcucompile.nn.standardize import Standardize, fold_standardize
from mcucompile.nn.training import compile_training, homotopy_at, rescale_gradients, set_homotopy, similarity_weights
from mcucompile.nn.weights import load_weights

__all__ = [
    "TORCH_SIMILARITIES",
    "Conv1d",
    "Conv2d",
    "FourView",
    "Linear",
    "RectifiedAngle",
    "Scale",
    "Standardize",
    "compile_training",
    "convert",
    "export_onnx",
    "fold_standardize",
    "homotopy_at",
    "load_weights",
    "matched_init",
    "rescale_gradients",
    "set_batch_norm_gamma",
    "set_homotopy",
    "similarity_weights",
]
