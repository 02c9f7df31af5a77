# Cross-builds for 64-bit ARM on Debian and Ubuntu; programs run under qemu's user emulation.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64-static -cpu max,sme=off -L /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
# GCC 12 fails with an internal error on float reductions at -O3.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")
