"""Boards, tool chains, emulators, the serial link and flash runners."""
