"""mcucompile compiles a trained network to exact fixed-point C firmware for small microcontrollers."""

__version__ = "0.1.0"
