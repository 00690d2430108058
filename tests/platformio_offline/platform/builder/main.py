"""Builds a project without framework, as the registry's bare-metal platforms do."""

from SCons.Script import AlwaysBuild, Default, DefaultEnvironment

env = DefaultEnvironment()
build = env.BoardConfig().get("build")
triple = build["triple"]
core = build["core_flags"].split()
if "march" in build:
    core += [f"-march={build['march']}"]

env.Replace(
    AR=f"{triple}-gcc-ar",
    AS=f"{triple}-as",
    CC=f"{triple}-gcc",
    CXX=f"{triple}-g++",
    OBJCOPY=f"{triple}-objcopy",
    RANLIB=f"{triple}-gcc-ranlib",
    SIZETOOL=f"{triple}-size",
    SIZEPROGREGEXP=r"^(?:\.text|\.rodata|\.data)\s+(\d+).*",
    SIZEDATAREGEXP=r"^(?:\.data|\.bss)\s+(\d+).*",
    SIZECHECKCMD="$SIZETOOL -A -d $SOURCES",
    SIZEPRINTCMD="$SIZETOOL -B -d $SOURCES",
    PROGNAME="firmware",
    PROGSUFFIX=".elf",
)
env.Append(
    CCFLAGS=["-Os", "-Wall", *core],
    LINKFLAGS=["-Os", "-nostartfiles", "-nostdlib", *core],
    LIBS=["gcc"],
)

firmware = env.BuildProgram()
size = env.Alias("size", firmware, env.VerboseAction("$SIZEPRINTCMD", "Calculating size $SOURCE"))
AlwaysBuild(size)
Default([firmware, size])
