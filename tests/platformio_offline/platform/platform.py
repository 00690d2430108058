"""A PlatformIO platform that needs no package: it takes the compilers on PATH."""

from platformio.platform.base import PlatformBase


class OfflinePlatform(PlatformBase):
    """Stands in for the registry's sifive, nordicnrf51 and ststm32 platforms."""
